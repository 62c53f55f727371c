#!/usr/bin/env python3
"""Reads the main loops of the compiled kernels: instructions of each, and whether registers are spilled inside.

    tools/main_loops.py libstridewise_kernels.rlib
    tools/main_loops.py --objdump aarch64-linux-gnu-objdump --mca llvm-mca --cpu neoverse-n1 libstridewise_kernels.rlib

A main loop is an innermost loop with multiply-adds, of a kernel that sums up convolutions or measures the peak. One that moves a
vector register to or from the stack is a failure: status 1. The library must be compiled with -C symbol-mangling-version=v0, so
that symbols say which instance of a generic function they are; .ci/main-loops does that. With --mca, llvm-mca predicts the cycles
of each main loop on a processor, and from them the share of its FMA pipes' time that is used.
"""
import argparse
import collections
import re
import subprocess
import sys

# Kernels whose speed is that of their multiply-adds, and the chains that the peak is measured with: of plain Rust too.
KERNEL = re.compile(
    r"::(avx2|avx512|neon|fused(?=::kernels::fma_chain))::kernels::"
    r"((?:conv_tile|depthwise_any|depthwise_shaped|groups|fma_chain)(?:::<[^>]*>)?)>:$"
)
# The chains of bytes: what is timed must be products, which the compiler can take out of the loop where they are not one instruction
# with their sums.
CHAIN = re.compile(r"::(\w+)::int8::(?:\w+::)?kernels::(chain)>:$")
PRODUCT = re.compile(r"^(\{vex\}|v?pmadd|v?pmul|vpdpbusd|[su]dot|smull|smlal|mul|mla)")
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
# A jump's destination; what stands behind it is the symbol's name.
DESTINATION = re.compile(r"(?:^|,\s*)(?:0x)?([0-9a-f]+)(?:\s+<|\s*$)")
JUMP = re.compile(r"^(j[a-z]+|b|b\.[a-z]+|cbn?z|tbn?z)$")
FMA = re.compile(r"^(vfn?madd|fmla|fmadd)")
STACK = re.compile(r"\(%[er]sp|\[sp[,\]]")
VECTOR = re.compile(r"%[xyz]mm\d|\b[qdsv]\d+\b")
MEMORY = re.compile(r"\(%|\[(?:x\d|sp)")

Instruction = collections.namedtuple("Instruction", "address mnemonic operands")
Loop = collections.namedtuple("Loop", "isa kernel body")


def functions(lines):
    """Instruction set, kernel and instructions of each kernel in a disassembly."""
    found, body = None, []
    for line in lines:
        if line.endswith(">:\n"):
            if found:
                yield found + (body,)
            match = KERNEL.search(line.rstrip()) or CHAIN.search(line.rstrip())
            found, body = (match.groups() if match else None), []
        elif found and (match := INSTRUCTION.match(line)):
            address, mnemonic, operands = match.groups()
            # Binutils writes what it knows more behind these.
            operands = re.split(r"\s*(?://|#)\s", operands)[0].strip() if "#" not in operands[:1] else operands
            body.append(Instruction(int(address, 16), mnemonic, operands))
    if found:
        yield found + (body,)


def main_loops(isa, kernel, body, wanted=FMA):
    """Innermost loops with multiply-adds, or other wanted instructions."""
    spans = set()
    for instruction in body:
        if JUMP.match(instruction.mnemonic) and (match := DESTINATION.search(instruction.operands)):
            target = int(match.group(1), 16)
            if body[0].address <= target <= instruction.address:
                spans.add((target, instruction.address))
    for begin, end in sorted(spans):
        if any(begin <= b and e <= end for b, e in spans - {(begin, end)}):
            continue
        inside = [i for i in body if begin <= i.address <= end]
        if any(wanted.match(i.mnemonic) for i in inside):
            yield Loop(isa, kernel, inside)


def count(loop):
    """Multiply-adds, memory operands, accesses of the stack by vector and by other registers."""
    fma = sum(1 for i in loop.body if FMA.match(i.mnemonic))
    memory = sum(1 for i in loop.body if MEMORY.search(i.operands) and not i.mnemonic.startswith(("lea", "nop", "prefetch", "prfm")))
    stack = [i for i in loop.body if STACK.search(i.operands) and not i.mnemonic.startswith("lea")]
    vector = sum(1 for i in stack if VECTOR.search(i.operands))
    return fma, memory, vector, len(stack) - vector


def predict(loop, tool, processor):
    """Cycles of an iteration, as llvm-mca predicts them."""
    intel = loop.isa != "neon"
    text = "".join(f"{i.mnemonic} {i.operands}\n" for i in loop.body if not JUMP.match(i.mnemonic) and not i.mnemonic.startswith("nop"))
    triple = "x86_64-unknown-linux-gnu" if intel else "aarch64-unknown-linux-gnu"
    arguments = [tool, f"-mtriple={triple}", f"-mcpu={processor}", "-iterations=100", "-resource-pressure=0", "-instruction-info=0"]
    done = subprocess.run(arguments, input=text, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)}: {done.stderr}")
    return int(re.search(r"Total Cycles:\s+(\d+)", done.stdout).group(1)) / 100


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("objects", nargs="+", help="a compiled library of the kernels")
    parser.add_argument("--objdump", default="objdump", help="disassembler of the library's architecture")
    parser.add_argument("--mca", metavar="LLVM-MCA", help="predict cycles with this program")
    parser.add_argument("--cpu", help="the processor that it predicts for")
    parser.add_argument("--pipes", type=int, default=2, help="multiply-adds of whole vectors that it starts in a cycle [default: 2]")
    parser.add_argument("--isa", help="only kernels of this instruction set")
    parser.add_argument("--largest", action="store_true", help="of each kernel only the loop with most multiply-adds")
    parser.add_argument("--show", metavar="KERNEL", help="print the loops of a kernel, such as groups::<4>")
    arguments = parser.parse_args()
    if bool(arguments.mca) != bool(arguments.cpu):
        parser.error("--mca and --cpu go together")
    loops, idle = [], []
    for path in arguments.objects:
        dump = subprocess.run([arguments.objdump, "-d", "-C", "--no-show-raw-insn", path], capture_output=True, text=True)
        if dump.returncode:
            sys.exit(f"{arguments.objdump} {path}: {dump.stderr}")
        for function in functions(dump.stdout.splitlines(keepends=True)):
            if function[1] != "chain":
                loops += main_loops(*function)
            elif not any(main_loops(*function, wanted=PRODUCT)):
                idle.append(f"{function[0]} {path}")
    loops = [loop for loop in loops if arguments.isa in (None, loop.isa)]
    if not loops:
        sys.exit(f"no main loops in {', '.join(arguments.objects)}: was it compiled with -C symbol-mangling-version=v0?")
    if arguments.largest:
        largest = {}
        for loop in loops:
            key = (loop.isa, loop.kernel)
            largest[key] = max(largest.get(key, loop), loop, key=lambda l: count(l)[0])
        loops = list(largest.values())
    header = ["isa", "kernel", "instructions", "FMA", "memory operands", "spills", "scalar reloads"]
    if arguments.mca:
        header += [f"cycles on {arguments.cpu}", "FMA pipes used"]
    rows, spilled = [header], []
    numbers = lambda loop: [int(n) for n in re.findall(r"\d+", loop.kernel)]
    for loop in sorted(loops, key=lambda l: (l.isa, l.kernel.split("::<")[0], numbers(l), l.body[0].address)):
        fma, memory, vector, scalar = count(loop)
        row = [loop.isa, loop.kernel.replace("::<", " ").rstrip(">"), len(loop.body), fma, memory, vector, scalar]
        if arguments.mca:
            cycles = predict(loop, arguments.mca, arguments.cpu)
            row += [f"{cycles:.1f}", f"{100 * fma / (arguments.pipes * cycles):.0f} %"]
        rows.append([str(cell) for cell in row])
        if vector:
            spilled.append(f"{loop.isa} {loop.kernel} at {loop.body[0].address:#x}: {vector}")
        if arguments.show == loop.kernel:
            print("\n".join(f"{i.address:6x}  {i.mnemonic} {i.operands}" for i in loop.body), end="\n\n")
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for index, row in enumerate(rows):
        cells = [cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in enumerate(zip(row, widths))]
        print("| " + " | ".join(cells) + " |")
        if index == 0:
            print("| " + " | ".join("-" * width if column < 2 else "-" * (width - 1) + ":" for column, width in enumerate(widths)) + " |")
    if spilled:
        print("vector registers are moved to or from the stack inside main loops:", *spilled, sep="\n  ", file=sys.stderr)
    if idle:
        print("the chain that the peak of bytes is measured with multiplies nothing inside its loop:", *idle, sep="\n  ", file=sys.stderr)
    return 1 if spilled or idle else 0


if __name__ == "__main__":
    sys.exit(main())

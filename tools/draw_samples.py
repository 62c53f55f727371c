"""Draws the sample pictures of Stridewise: one scene for each class, with numpy and Pillow, the same on every run.

    python draw_samples.py [OUT] [--check ../assets/resnet20_cifar10.safetensors]

Writes OUT/airplane.png and so on (default ../assets/samples), 256x256 with a palette. Shapes are smooth curves, filled, shaded as
if inflated and lit from the upper left, textured with seeded noise, and drawn at three times the size to smooth edges.
With --check the pictures are classified by the given network in PyTorch, as Stridewise does it: the shorter side resized
to 32 (bilinear with antialiasing), the centre cropped, x/255 normalised by the mean and deviation in the file's metadata.
"""

import argparse
import os

import numpy as np
from PIL import Image, ImageDraw

SIZE = 256
SCALE = 3
COLOURS = 256
HERE = os.path.dirname(os.path.abspath(__file__))


def curve(points, steps=12):
    """A closed Catmull-Rom curve through the points."""
    p = np.asarray(points, float)
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    a, b, c, d = (np.roll(p, k, 0)[:, None] for k in (1, 0, -1, -2))
    q = 2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    return (q / 2).reshape(-1, 2)


def oval(x, y, rx, ry, turn=0, steps=72):
    """An ellipse; `turn` in degrees, clockwise on the picture."""
    t = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    u, v = rx * np.cos(t), ry * np.sin(t)
    return np.stack([x + u * c - v * s, y + u * s + v * c], 1)


def limb(joints):
    """The outline of a limb: a chain of (x, y, half width) with a round cap at both ends."""
    j = np.asarray(joints, float)
    fine = np.linspace(0, len(j) - 1, 8 * len(j))
    x, y, w = (np.interp(fine, np.arange(len(j)), j[:, k]) for k in range(3))
    kernel = np.ones(5) / 5
    x, y = (np.convolve(np.pad(v, 2, "edge"), kernel, "valid") for v in (x, y))
    dx, dy = np.gradient(x), np.gradient(y)
    length = np.maximum(np.hypot(dx, dy), 1e-9)
    dx, dy = dx / length * w, dy / length * w
    t = np.linspace(0, np.pi, 13)[1:-1, None]
    last = np.array([x[-1], y[-1]]) + np.cos(t) * [-dy[-1], dx[-1]] + np.sin(t) * [dx[-1], dy[-1]]
    first = np.array([x[0], y[0]]) - np.cos(t) * [-dy[0], dx[0]] - np.sin(t) * [dx[0], dy[0]]
    return np.concatenate([np.stack([x - dy, y + dx], 1), last, np.stack([x + dy, y - dx], 1)[::-1], first])


def blurred(field, radius):
    """A Gaussian of deviation `radius` pixels, nearly: three box filters along rows and columns."""
    half = max(1, round(radius - 0.5))
    for _ in range(3):
        for axis in (0, 1):
            pad = [(half + 1, half) if axis == k else (0, 0) for k in (0, 1)]
            total = np.cumsum(np.pad(field, pad, "edge"), axis).swapaxes(0, axis)
            field = ((total[2 * half + 1 :] - total[: -2 * half - 1]) / (2 * half + 1)).swapaxes(0, axis)
    return field


class Scene:
    """A picture in SIZE x SIZE units, kept SCALE times larger while it is drawn."""

    def __init__(self, seed):
        self.random = np.random.Generator(np.random.PCG64(seed))
        self.pixels = np.zeros((SIZE * SCALE, SIZE * SCALE, 3))

    def noise(self, cell, stretch=1.0):
        """Smooth noise of deviation 1 with features of `cell` units, `stretch` times as wide as high."""
        side = SIZE * SCALE
        w, h = (max(2, int(np.ceil(SIZE / c)) + 1) for c in (cell * stretch, cell))
        grid = Image.fromarray(self.random.standard_normal((h, w)).astype(np.float32))
        field = np.asarray(grid.resize((side, side), Image.Resampling.BICUBIC), float)
        return (field - field.mean()) / field.std()

    def backdrop(self, stops):
        """Colours by height: [(y, (r, g, b)), ...], blended in between."""
        y = (np.arange(SIZE * SCALE) + 0.5) / SCALE
        heights = [s[0] for s in stops]
        rows = np.stack([np.interp(y, heights, [s[1][k] for s in stops]) for k in range(3)], 1)
        self.pixels[:] = rows[:, None]

    def mask(self, outline, blur=0.0):
        side = SIZE * SCALE
        image = Image.new("L", (side, side))
        ImageDraw.Draw(image).polygon([(float(x) * SCALE, float(y) * SCALE) for x, y in outline], fill=255)
        mask = np.asarray(image, float) / 255
        return blurred(mask, blur * SCALE) if blur else mask

    def paint(self, mask, colour):
        self.pixels += mask[:, :, None] * (np.asarray(colour, float) - self.pixels)

    def mottle(self, mask, strength, cell, stretch=1.0, tint=(1, 1, 1)):
        """Adds noise, `strength` grey levels of deviation, under the mask (1.0: everywhere)."""
        self.pixels += (mask * self.noise(cell, stretch) * strength)[:, :, None] * np.asarray(tint, float)

    def fill(self, outline, colour, round=0.0, depth=0.5, texture=None, under=0.0):
        """A shape in `colour`, shaded over `round` units from its edge; `under` darkens it towards its lower end."""
        mask = self.mask(outline)
        paint = np.broadcast_to(np.asarray(colour, float), self.pixels.shape).copy()
        if under:
            top, bottom = min(p[1] for p in outline), max(p[1] for p in outline)
            y = ((np.arange(SIZE * SCALE) + 0.5) / SCALE - top) / max(bottom - top, 1e-9)
            paint *= (1 - under * np.clip(y, 0, 1) ** 1.5)[:, None, None]
        if round:
            height = self.mask(outline, round)
            dy, dx = np.gradient(height)
            light = (dx * 0.55 + dy * 0.83) * round * SCALE * 2.2
            paint *= (1 + depth * np.clip(light, -1, 0.8))[:, :, None]
        if texture:
            strength, cell = texture
            paint += (self.noise(cell) * strength)[:, :, None]
        self.paint(mask, paint)

    def shadow(self, outline, strength, blur):
        self.paint(self.mask(outline, blur) * strength, (18, 18, 16))

    def save(self, path):
        """Shrinks the picture to SIZE, reduces it to COLOURS and writes it."""
        pixels = self.pixels.clip(0, 255).reshape(SIZE, SCALE, SIZE, SCALE, 3).mean((1, 3))
        image = Image.fromarray(np.rint(pixels).astype(np.uint8), "RGB")
        image = image.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, kmeans=3, dither=Image.Dither.NONE)
        image.save(path, optimize=True)


def band(y0, y1):
    return [(0, y0), (SIZE, y0), (SIZE, y1), (0, y1)]


def mirrored(points, axis=SIZE / 2):
    return [(2 * axis - x, y) for x, y in points]


def airplane(s):
    """An airliner, climbing to the left."""
    s.backdrop([(0, (74, 128, 200)), (256, (176, 208, 238))])
    s.mottle(np.clip(s.noise(60, 2.2), 0, 2) / 2, 12, 24, 2)
    grey, white = (150, 158, 170), (238, 240, 244)
    # Far wing and tailplane, behind the body.
    s.fill([(120, 124), (150, 70), (162, 66), (156, 122)], grey, 4)
    s.fill([(205, 108), (232, 88), (240, 88), (226, 112)], grey, 3)
    # Fin, body, stripe, windows.
    s.fill([(196, 110), (226, 58), (244, 56), (234, 112)], (32, 70, 150), 5)
    body = curve([(14, 148), (22, 136), (44, 126), (100, 118), (170, 109), (226, 103), (246, 102), (240, 112), (200, 132), (130, 146), (60, 156), (26, 156)])
    s.fill(body, white, 12, 0.7)
    for i in range(19):
        x = 54 + i * 8.2
        s.fill(oval(x, 137 - (x - 54) * 0.135, 1.8, 2.4, steps=16), (70, 84, 110))
    s.fill([(20, 142), (30, 135), (38, 133), (36, 140)], (40, 50, 66))
    # Engine, near wing and tailplane.
    s.fill(curve([(96, 166), (104, 158), (128, 156), (136, 163), (128, 173), (104, 175)]), (190, 196, 206), 6, 0.8)
    s.fill(oval(98, 167, 4, 8), (50, 56, 66))
    s.fill([(96, 146), (134, 138), (206, 196), (212, 206), (196, 204), (128, 160)], (186, 192, 202), 8, 0.7)
    s.fill([(204, 122), (228, 116), (250, 134), (240, 136)], (186, 192, 202), 4, 0.7)


def ship(s):
    """A cargo liner on the open sea."""
    s.backdrop([(0, (150, 186, 220)), (128, (214, 226, 234)), (150, (206, 218, 228)), (151, (70, 108, 140)), (256, (28, 62, 98))])
    s.mottle(s.mask(band(0, 150)), 5, 26, 3)
    s.mottle(s.mask(band(152, 256)), 9, 4, 6)
    s.shadow([(20, 180), (240, 180), (224, 200), (36, 200)], 0.6, 5)
    # Superstructure, funnel, masts.
    s.fill([(150, 138), (152, 92), (206, 92), (214, 138)], (238, 238, 234), 4)
    s.fill([(158, 92), (160, 74), (196, 74), (198, 92)], (244, 244, 240), 3)
    s.fill([(172, 74), (174, 46), (194, 46), (194, 74)], (190, 50, 40), 5, 0.8)
    s.fill([(173, 54), (174, 46), (194, 46), (194, 54)], (34, 34, 38), 4)
    for y, x0, x1 in ((82, 162, 194), (102, 156, 204), (116, 156, 208)):
        for x in np.arange(x0, x1, 7):
            s.fill([(x, y), (x + 4, y), (x + 4, y + 5), (x, y + 5)], (50, 70, 92))
    for x, top in ((70, 72), (112, 80), (154, 58)):
        s.fill([(x - 1.3, 142), (x - 1.3, top), (x + 1.3, top), (x + 1.3, 142)], (90, 84, 80))
        s.fill([(x, top + 12), (x + 26, 128), (x + 23, 130)], (110, 104, 98))
    for x, colour in ((44, (186, 90, 50)), (64, (60, 100, 150)), (84, (180, 170, 160)), (104, (150, 60, 50)), (124, (70, 120, 100))):
        s.fill([(x, 142), (x, 124), (x + 18, 124), (x + 18, 142)], colour, 3)
    # Hull with a red waterline, bow to the left.
    s.fill([(6, 128), (24, 136), (232, 140), (244, 134), (234, 186), (36, 186)], (36, 44, 62), 10, 0.6)
    s.fill([(29, 174), (236, 174), (234, 186), (36, 186)], (140, 40, 34), 3)
    s.fill([(9, 131), (24, 138), (232, 142), (243, 137), (242, 141), (232, 146), (24, 142)], (220, 220, 220))
    foam = s.mask([(22, 190), (40, 183), (236, 184), (252, 190), (200, 191), (80, 192)], 2)
    s.paint(foam * np.clip(0.6 + 0.3 * s.noise(4, 4), 0, 1), (226, 234, 240))


def wheel(s, x, y, r, hub=(178, 182, 188)):
    s.fill(oval(x, y, r, r), (24, 24, 26), 4)
    s.fill(oval(x, y, r * 0.62, r * 0.62), hub, 3, 0.8)
    for k in range(5):
        t = np.radians(72 * k - 90)
        s.fill(oval(x + np.cos(t) * r * 0.36, y + np.sin(t) * r * 0.36, r * 0.13, r * 0.13, steps=16), (60, 62, 66))
    s.fill(oval(x, y, r * 0.12, r * 0.12, steps=16), (90, 92, 96))


def automobile(s):
    """A red saloon on a road, from the side."""
    s.backdrop([(0, (196, 212, 226)), (96, (222, 228, 230)), (110, (96, 120, 84)), (150, (112, 132, 90)), (152, (150, 148, 144)), (256, (112, 110, 108))])
    s.mottle(s.mask(band(104, 152), 2), 10, 6, 2)
    s.mottle(s.mask(band(153, 256)), 5, 3, 3)
    s.shadow(oval(128, 204, 118, 12), 0.85, 5)
    red = (196, 28, 30)
    body = curve([(10, 186), (8, 160), (18, 146), (60, 136), (88, 106), (112, 96), (160, 96), (188, 108), (212, 134), (240, 142), (248, 160), (246, 188), (220, 196), (128, 198), (30, 196)])
    s.fill(body, red, 12, 0.75, under=0.35)
    glass = (44, 56, 70)
    s.fill(curve([(72, 136), (92, 112), (112, 104), (124, 103), (124, 136), (96, 138)], 8), glass, 6)
    s.fill(curve([(132, 103), (158, 103), (180, 113), (196, 134), (164, 137), (132, 136)], 8), glass, 6)
    s.fill([(82, 132), (98, 112), (106, 109), (92, 132)], (150, 166, 180))
    s.fill([(140, 132), (150, 107), (158, 107), (150, 132)], (120, 138, 154))
    s.fill([(127, 136), (128, 192), (129.4, 192), (128.4, 136)], (110, 12, 16))
    s.fill([(136, 148), (150, 148), (150, 151), (136, 151)], (90, 10, 12))
    s.fill(curve([(12, 158), (18, 148), (34, 146), (32, 156)], 6), (250, 246, 220), 3)
    s.fill(curve([(236, 146), (246, 152), (246, 162), (236, 158)], 6), (120, 6, 10), 2)
    s.fill([(8, 172), (40, 172), (40, 176), (8, 176)], (60, 10, 12))
    for x in (62, 196):
        s.fill(oval(x, 188, 27, 27), (20, 12, 14))
        wheel(s, x, 190, 22)


def truck(s):
    """A delivery lorry on a road, cab to the left."""
    s.backdrop([(0, (170, 196, 222)), (120, (220, 228, 232)), (134, (120, 134, 110)), (168, (126, 138, 100)), (170, (136, 134, 132)), (256, (98, 96, 96))])
    s.mottle(s.mask(band(128, 170), 2), 10, 6, 2)
    s.mottle(s.mask(band(171, 256)), 5, 3, 3)
    s.shadow(oval(130, 222, 122, 10), 0.85, 4)
    s.fill([(84, 196), (244, 196), (244, 208), (84, 208)], (44, 44, 48), 3)
    s.fill([(92, 52), (246, 46), (248, 196), (92, 196)], (232, 232, 228), 10, 0.4, under=0.15)
    for x in range(112, 248, 18):
        s.fill([(x, 54), (x + 1.2, 54), (x + 1.2, 192), (x, 192)], (196, 196, 194))
    s.fill([(92, 120), (247, 118), (247, 136), (92, 138)], (30, 80, 160))
    blue = (38, 88, 168)
    cab = curve([(14, 206), (12, 156), (20, 140), (32, 100), (44, 90), (84, 88), (88, 100), (88, 206), (50, 208)], 8)
    s.fill(cab, blue, 9, 0.7, under=0.3)
    s.fill([(24, 140), (35, 104), (46, 100), (52, 100), (52, 140)], (46, 60, 76), 4)
    s.fill([(57, 100), (80, 100), (80, 140), (57, 140)], (46, 60, 76), 4)
    s.fill([(30, 136), (40, 106), (46, 104), (38, 136)], (150, 170, 188))
    s.fill([(14, 168), (30, 168), (30, 180), (14, 180)], (250, 240, 200), 2)
    s.fill([(10, 190), (88, 190), (88, 206), (10, 206)], (60, 62, 68), 4)
    for x in (50, 178, 222):
        s.fill(oval(x, 204, 24, 24), (18, 18, 20))
        wheel(s, x, 208, 20)


def grass(s, horizon, far=(150, 160, 96), near=(84, 116, 48), trees=(70, 92, 60), sky=(206, 220, 232)):
    """A meadow before a line of trees."""
    s.backdrop([(0, sky), (horizon * 0.3, sky), (horizon * 0.55, trees), (horizon - 2, trees), (horizon, far), (256, near)])
    s.mottle(s.mask(band(0, horizon), 3), 14, 14)
    s.mottle(s.mask(band(horizon, 256), 3), 9, 4, 1.5)


def horse(s):
    """A bay horse in a meadow, facing left."""
    grass(s, 120)
    s.shadow(oval(140, 226, 92, 8), 0.6, 5)
    coat, dark, black = (136, 76, 40), (104, 56, 30), (34, 26, 24)
    # Far legs.
    for joints in ([(106, 150, 11), (102, 180, 7), (104, 204, 5), (102, 222, 6)], [(196, 146, 14), (190, 174, 8), (200, 198, 5), (196, 222, 6)]):
        s.fill(limb(joints), dark, 4)
    # Near legs, black below the knee.
    for joints in ([(100, 146, 14), (92, 182, 8), (92, 206, 5.5), (90, 226, 7)], [(206, 140, 20), (206, 170, 10), (216, 194, 6.5), (212, 226, 7)]):
        s.fill(limb(joints), coat, 6, 0.7)
        s.fill(limb([(*joints[2][:2], joints[2][2]), joints[3]]), black, 3)
    s.fill(limb([(222, 108, 4), (236, 126, 8), (238, 160, 9), (232, 190, 4)]), black, 5)
    body = curve([(84, 112), (100, 98), (136, 104), (176, 100), (206, 96), (222, 106), (226, 130), (214, 152), (180, 156), (140, 164), (106, 158), (88, 142)])
    s.fill(body, coat, 16, 0.8, under=0.25)
    # Neck and head.
    s.fill(curve([(52, 44), (72, 40), (94, 58), (120, 100), (116, 136), (92, 140), (80, 116), (66, 84), (54, 68)]), coat, 10, 0.7)
    s.fill(curve([(50, 42), (64, 44), (72, 58), (62, 78), (44, 98), (30, 106), (20, 100), (22, 88), (36, 62)]), coat, 8, 0.7)
    s.fill([(52, 46), (52, 26), (62, 42)], coat, 3)
    s.fill([(60, 46), (64, 27), (70, 46)], dark, 3)
    s.fill(curve([(60, 40), (76, 34), (102, 52), (124, 88), (122, 106), (108, 88), (92, 66), (74, 50)]), black, 5)
    s.fill(oval(24, 99, 7, 7), (70, 44, 34), 4)
    s.fill(oval(48, 62, 3, 2.6), (16, 12, 12))


def deer(s):
    """A stag at the edge of a wood, facing left."""
    s.backdrop([(0, (84, 104, 62)), (150, (104, 122, 66)), (170, (128, 132, 76)), (256, (112, 110, 58))])
    s.mottle(s.mask(band(0, 165), 4), 16, 12)
    for x, w in ((30, 7), (150, 5), (214, 9), (242, 5)):
        s.fill(limb([(x, -10, w), (x + 3, 160, w + 1)]), (74, 62, 48), 4, 0.6)
    s.mottle(s.mask(band(160, 256), 3), 9, 5, 1.5)
    s.shadow(oval(146, 232, 78, 7), 0.6, 5)
    coat, dark, pale = (166, 112, 66), (122, 80, 48), (226, 206, 176)
    for joints in ([(116, 160, 9), (112, 192, 5), (114, 230, 4)], [(194, 156, 10), (186, 188, 6), (196, 208, 4), (192, 230, 4)]):
        s.fill(limb(joints), dark, 3)
    for joints in ([(112, 156, 11), (104, 192, 6), (104, 234, 4.5)], [(200, 150, 15), (200, 182, 7), (208, 206, 4.5), (204, 234, 4.5)]):
        s.fill(limb(joints), coat, 4, 0.7)
    body = curve([(96, 126), (112, 116), (146, 120), (186, 116), (208, 122), (214, 142), (204, 164), (172, 166), (138, 172), (112, 168), (98, 150)])
    s.fill(body, coat, 13, 0.8, under=0.2)
    s.fill(oval(213, 138, 7, 13), pale, 3)
    s.fill(curve([(72, 74), (88, 72), (106, 96), (126, 122), (120, 150), (102, 152), (94, 130), (82, 102)]), coat, 8, 0.7)
    # Antlers.
    for joints in (
        [(78, 66, 2.6), (84, 40, 2.3), (104, 22, 2), (106, 8, 1.2)], [(86, 40, 2), (76, 22, 1.2)], [(98, 27, 2), (92, 10, 1.2)],
        [(68, 66, 2.6), (56, 42, 2.3), (38, 28, 2), (34, 12, 1.2)], [(55, 42, 2), (62, 22, 1.2)], [(44, 32, 2), (50, 12, 1.2)],
    ):
        s.fill(limb(joints), (206, 182, 142), 2)
    s.fill(curve([(86, 70), (106, 60), (112, 64), (98, 80)]), coat, 4)
    s.fill(curve([(62, 66), (80, 62), (92, 76), (84, 92), (64, 104), (50, 108), (44, 102), (50, 86)]), coat, 7, 0.7)
    s.fill(oval(48, 103, 5, 5), (40, 30, 28), 2)
    s.fill(oval(68, 80, 3, 2.8), (18, 14, 12))
    s.fill(curve([(88, 110), (98, 128), (104, 150), (96, 148), (86, 126)]), pale, 4)


def frog(s):
    """A green frog on damp earth, facing left."""
    s.backdrop([(0, (112, 98, 74)), (256, (150, 130, 98))])
    s.mottle(1.0, 12, 16)
    s.mottle(1.0, 5, 8)
    s.shadow(oval(136, 196, 108, 16), 0.7, 7)
    skin, dark, belly = (98, 136, 50), (68, 98, 36), (206, 206, 150)
    # Folded far legs, then body.
    s.fill(limb([(84, 160, 12), (58, 178, 8), (44, 198, 6), (24, 202, 5)]), dark, 4)
    body = curve([(26, 118), (40, 96), (66, 80), (100, 72), (150, 84), (200, 118), (232, 160), (228, 184), (180, 196), (110, 192), (64, 170), (34, 144)])
    s.fill(body, skin, 20, 0.8)
    s.fill(curve([(30, 134), (60, 146), (96, 154), (120, 176), (110, 190), (80, 184), (50, 162)]), belly, 10, 0.5)
    for x, y, r in ((120, 96, 8), (150, 106, 7), (178, 128, 8), (140, 126, 6), (200, 150, 6), (104, 110, 5), (166, 150, 6)):
        s.fill(oval(x, y, r, r * 0.75, 30), dark, 3)
    s.fill(limb([(30, 133, 1.2), (60, 138, 1.6), (88, 134, 1.2)]), (50, 66, 26))
    # Thigh, shin and foot; foreleg.
    s.fill(curve([(150, 168), (178, 140), (214, 138), (238, 162), (232, 192), (196, 204), (160, 196)]), skin, 14, 0.85)
    s.fill(limb([(230, 186, 10), (196, 204, 9), (156, 206, 6)]), dark, 5, 0.8)
    s.fill(limb([(190, 206, 8), (150, 212, 6), (120, 214, 3)]), skin, 4, 0.8)
    s.fill(limb([(96, 158, 14), (90, 186, 9), (74, 204, 7), (48, 210, 4)]), skin, 6, 0.85)
    # Eyes.
    s.fill(oval(70, 84, 17, 15), skin, 7, 0.8)
    s.fill(oval(66, 84, 11, 10), (206, 170, 60), 3)
    s.fill(oval(64, 84, 7, 5.5), (14, 14, 12))
    s.fill(oval(61, 81, 2, 2), (250, 250, 250))
    s.fill(oval(34, 116, 2, 1.6), (40, 52, 22))


def bird(s):
    """A robin on a branch, facing left."""
    s.backdrop([(0, (188, 208, 228)), (256, (206, 216, 218))])
    s.mottle(1.0, 12, 48)
    s.fill(limb([(-10, 214, 9), (90, 204, 8), (180, 208, 7), (270, 196, 6)]), (92, 72, 54), 4, 0.7, texture=(8, 4))
    brown, wing, breast, pale = (122, 100, 76), (92, 74, 56), (206, 98, 40), (226, 220, 206)
    s.fill(curve([(176, 150), (200, 168), (248, 214), (240, 224), (190, 194), (160, 176)]), wing, 6)
    body = curve([(60, 92), (74, 62), (104, 50), (132, 62), (150, 92), (186, 130), (200, 166), (176, 190), (130, 198), (90, 180), (66, 142)])
    s.fill(body, brown, 18, 0.8)
    s.fill(curve([(62, 96), (76, 84), (96, 90), (110, 118), (112, 150), (96, 164), (78, 152), (66, 126)]), breast, 10, 0.6)
    s.fill(curve([(88, 158), (112, 152), (140, 166), (156, 188), (130, 196), (98, 184)]), pale, 10, 0.5)
    s.fill(curve([(124, 104), (152, 106), (190, 140), (214, 182), (196, 182), (152, 166), (126, 138)]), wing, 8, 0.8)
    for k in range(4):
        s.fill(limb([(138 + 6 * k, 122 + 11 * k, 1), (176 + 6 * k, 150 + 8 * k, 0.8)]), (70, 56, 44))
    s.fill([(64, 78), (36, 88), (64, 94)], (64, 54, 40), 3)
    s.fill(oval(86, 78, 6, 6), (16, 14, 12))
    s.fill(oval(84, 76, 1.8, 1.8), (240, 240, 240))
    for x in (118, 138):
        s.fill(limb([(x, 192, 3), (x - 2, 206, 2.4), (x - 12, 208, 2)]), (110, 70, 50), 1)


def cat(s):
    """A grey tabby's face."""
    s.backdrop([(0, (96, 72, 58)), (256, (124, 92, 72))])
    s.mottle(1.0, 8, 50)
    fur, dark, pale, pink = (150, 128, 104), (74, 60, 50), (226, 214, 198), (206, 148, 140)
    s.fill(curve([(30, 270), (44, 200), (90, 170), (166, 170), (212, 200), (228, 270)]), fur, 16, 0.7, texture=(6, 4))
    for flip in (False, True):
        ear, inner = [(40, 104), (38, 22), (58, 30), (112, 66)], [(52, 90), (48, 40), (60, 46), (92, 72)]
        s.fill(mirrored(ear) if flip else ear, fur, 8, 0.6)
        s.fill(mirrored(inner) if flip else inner, pink, 5)
    head = curve([(128, 54), (176, 62), (216, 100), (222, 146), (196, 186), (156, 206), (128, 210), (100, 206), (60, 186), (34, 146), (40, 100), (80, 62)])
    s.fill(head, fur, 22, 0.7, texture=(6, 3))
    stripes = [[(128, 58, 5), (128, 92, 3)], [(108, 62, 4), (114, 94, 2)], [(88, 70, 4), (98, 96, 2)], [(36, 140, 4), (66, 146, 2)], [(44, 164, 4), (72, 160, 2)]]
    for joints in stripes:
        s.fill(limb(joints), dark, 2)
        s.fill(limb([(SIZE - x, y, w) for x, y, w in joints]), dark, 2)
    for x in (106, 150):
        s.fill(oval(x, 172, 27, 22), pale, 8, 0.5)
    s.fill(oval(128, 194, 16, 12), pale, 5)
    for x in (88, 168):
        s.fill(oval(x, 124, 22, 18), (44, 38, 36))
        s.fill(oval(x, 124, 19, 15.5), (176, 184, 72), 4)
        s.fill(oval(x, 124, 6.5, 14.5), (12, 12, 12))
        s.fill(oval(x - 5, 117, 3.4, 3.4), (250, 250, 250))
    s.fill(curve([(114, 150), (128, 148), (142, 150), (134, 162), (128, 166), (122, 162)]), pink, 3)
    s.fill(limb([(128, 164, 1.4), (128, 176, 1.4), (114, 184, 1.2), (102, 180, 0.8)]), (70, 54, 52))
    s.fill(limb([(128, 164, 1.4), (128, 176, 1.4), (142, 184, 1.2), (154, 180, 0.8)]), (70, 54, 52))
    for y, end in ((168, 156), (174, 174), (180, 192)):
        s.fill(limb([(92, y, 0.8), (50, (y + end) / 2, 0.7), (12, end, 0.4)]), (244, 244, 240))
        s.fill(limb([(164, y, 0.8), (206, (y + end) / 2, 0.7), (244, end, 0.4)]), (244, 244, 240))


def dog(s):
    """A brown and white hound's face."""
    s.backdrop([(0, (132, 158, 104)), (256, (98, 128, 70))])
    s.mottle(1.0, 10, 30)
    coat, dark, white = (168, 110, 62), (110, 66, 36), (240, 234, 224)
    s.fill(curve([(40, 270), (56, 210), (96, 180), (160, 180), (200, 210), (216, 270)]), coat, 16, 0.7)
    s.fill(curve([(92, 270), (104, 206), (152, 206), (164, 270)]), white, 12, 0.5)
    head = curve([(128, 34), (166, 40), (192, 66), (196, 110), (180, 150), (164, 190), (128, 206), (92, 190), (76, 150), (60, 110), (64, 66), (90, 40)])
    s.fill(head, coat, 20, 0.7, texture=(5, 3))
    s.fill(curve([(128, 34), (138, 60), (138, 110), (164, 140), (168, 176), (150, 204), (128, 212), (106, 204), (88, 176), (92, 140), (118, 110), (118, 60)]), white, 12, 0.5)
    for flip in (False, True):
        ear = [(84, 42), (60, 46), (34, 84), (22, 140), (36, 172), (56, 162), (68, 120), (78, 80)]
        s.fill(curve(mirrored(ear) if flip else ear), dark, 9, 0.7)
    for x in (96, 160):
        s.fill(oval(x, 104, 12, 11), (58, 36, 24))
        s.fill(oval(x, 104, 9, 9), (24, 16, 14))
        s.fill(oval(x - 3, 100, 3, 3), (250, 250, 250))
    s.fill(curve([(106, 150), (128, 142), (150, 150), (144, 166), (128, 174), (112, 166)]), (26, 22, 24), 6, 0.8)
    s.fill(limb([(128, 172, 1.6), (128, 186, 1.8), (112, 196, 1.6), (98, 188, 1)]), (60, 40, 36))
    s.fill(limb([(128, 172, 1.6), (128, 186, 1.8), (144, 196, 1.6), (158, 188, 1)]), (60, 40, 36))
    s.fill(curve([(116, 196), (140, 196), (142, 218), (128, 228), (114, 218)]), (220, 110, 116), 6)


SCENES = (airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck)


def classify(paths, weights):
    """Class names in order of probability, with the probabilities, for each picture."""
    import torch

    from cifar_net import CLASSES
    from convert_half import cifar_net, normalisation, read

    tensors, metadata = read(weights)
    net = cifar_net(tensors, metadata)
    mean, std = (torch.tensor(v)[:, None, None] for v in normalisation(metadata))
    for path in paths:
        image = Image.open(path).convert("RGB")
        side = min(image.size)
        width, height = (v * 32 // side for v in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = round((width - 32) / 2), round((height - 32) / 2)
        pixels = torch.from_numpy(np.asarray(image.crop((left, top, left + 32, top + 32))).copy()).permute(2, 0, 1)
        with torch.no_grad():
            p = net(((pixels.float() / 255 - mean) / std)[None]).softmax(1)[0]
        yield [(CLASSES[i], p[i].item()) for i in p.argsort(descending=True).tolist()]


def main():
    title, _, details = __doc__.partition("\n\n")
    p = argparse.ArgumentParser(description=title, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out", metavar="OUT", nargs="?", default=os.path.join(HERE, "..", "assets", "samples"))
    p.add_argument("--check", metavar="WEIGHTS.safetensors", help="classify the pictures (needs torch and safetensors)")
    p.add_argument("--only", metavar="CLASS", help="draw this one; may be repeated", choices=[scene.__name__ for scene in SCENES], action="append")
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    paths = []
    for seed, scene in enumerate(SCENES):
        if a.only and scene.__name__ not in a.only:
            continue
        canvas = Scene(seed)
        scene(canvas)
        paths.append(os.path.join(a.out, f"{scene.__name__}.png"))
        canvas.save(paths[-1])
        print(f"{scene.__name__:<11}{os.path.getsize(paths[-1]):>7} bytes")
    if a.check:
        for path, ranked in zip(paths, classify(paths, a.check)):
            top = "  ".join(f"{name} {100 * value:.1f} %" for name, value in ranked[:3])
            print(f"{os.path.basename(path):<16}{top}")


if __name__ == "__main__":
    main()

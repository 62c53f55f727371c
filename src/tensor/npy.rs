//! NumPy's `.npy` files. A file may come from anyone: sizes are held against the file's length before memory is asked for.

use super::{Element, Shape, Tensor};
use crate::atomic_file::write_atomically;
use crate::error::{Error, Result};
use crate::regular_file;
use ::half::f16;
use npyz::{DType, NpyHeader, Order, TypeChar, WriterBuilder};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// Longest header that is read: NumPy's own limit.
const MAX_HEADER: usize = 10_000;

/// The element types that NumPy has too: all but `bf16`.
pub trait NpyElement: Element + npyz::AutoSerialize {
    #[doc(hidden)]
    const KIND: TypeChar;
}

macro_rules! npy {
    ($($variant:ident($t:ty) => $kind:ident),*) => {
        $(impl NpyElement for $t {
            const KIND: TypeChar = TypeChar::$kind;
        })*

        /// A tensor of whatever element type its file has.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum NpyTensor {
            $(#[doc = concat!("Elements of type `", stringify!($t), "`.")]
            $variant(Tensor<$t>),)*
        }

        impl NpyTensor {
            /// Reads a `.npy` file of any element type of this enum.
            ///
            /// # Errors
            /// As [`Tensor::read_npy`]; the element type only has to be one of these.
            pub fn read(path: impl AsRef<Path>) -> Result<NpyTensor> {
                let file = NpyFile::open(path.as_ref())?;
                $(if file.holds::<$t>() {
                    return Ok(NpyTensor::$variant(file.into_tensor()?));
                })*
                Err(file.wrong_type(&[$(<$t>::NAME),*].join(", ")))
            }

            /// The dimensions, outermost first.
            pub fn dims(&self) -> &[usize] {
                match self { $(NpyTensor::$variant(tensor) => tensor.dims(),)* }
            }

            /// The element type's name, for example `float32`.
            pub fn dtype(&self) -> &'static str {
                match self { $(NpyTensor::$variant(_) => <$t>::NAME,)* }
            }
        }
    };
}
npy!(F32(f32) => Float, F64(f64) => Float, F16(f16) => Float, U8(u8) => Uint, I8(i8) => Int, U16(u16) => Uint, I16(i16) => Int,
    U32(u32) => Uint, I32(i32) => Int, I64(i64) => Int);

impl NpyTensor {
    /// Floating-point elements as `f64`, exactly; `None` for integers.
    ///
    /// # Errors
    /// When there is no memory for the result.
    pub fn to_f64(&self) -> Result<Option<Tensor<f64>>> {
        match self {
            NpyTensor::F64(tensor) => Ok(Some(tensor.clone())),
            NpyTensor::F32(tensor) => convert(tensor, f64::from).map(Some),
            NpyTensor::F16(tensor) => convert(tensor, f64::from).map(Some),
            _ => Ok(None),
        }
    }

    /// Integer elements as `i64`, exactly; `None` for floating point.
    ///
    /// # Errors
    /// When there is no memory for the result.
    pub fn to_i64(&self) -> Result<Option<Tensor<i64>>> {
        match self {
            NpyTensor::I64(tensor) => Ok(Some(tensor.clone())),
            NpyTensor::U8(tensor) => convert(tensor, i64::from).map(Some),
            NpyTensor::I8(tensor) => convert(tensor, i64::from).map(Some),
            NpyTensor::U16(tensor) => convert(tensor, i64::from).map(Some),
            NpyTensor::I16(tensor) => convert(tensor, i64::from).map(Some),
            NpyTensor::U32(tensor) => convert(tensor, i64::from).map(Some),
            NpyTensor::I32(tensor) => convert(tensor, i64::from).map(Some),
            _ => Ok(None),
        }
    }
}

fn convert<A: Element, B: Element>(source: &Tensor<A>, widen: impl Fn(A) -> B) -> Result<Tensor<B>> {
    let mut target = Tensor::zeros(source.shape())?;
    for (to, &from) in target.as_mut_slice().iter_mut().zip(source.as_slice()) {
        *to = widen(from);
    }
    Ok(target)
}

impl<T: NpyElement> Tensor<T> {
    /// Reads a `.npy` file of this element type, of either byte order and in C or Fortran order.
    ///
    /// # Errors
    /// [`Error::Io`] when the file can't be read; [`Error::DType`] when its elements have another type, for nothing is
    /// converted; [`Error::Format`] when it is no `.npy` file of version 1 to 3, is shorter or longer than its shape says, or
    /// has more than six dimensions.
    pub fn read_npy(path: impl AsRef<Path>) -> Result<Self> {
        let file = NpyFile::open(path.as_ref())?;
        if file.holds::<T>() { file.into_tensor() } else { Err(file.wrong_type(T::NAME)) }
    }

    /// Writes a `.npy` file, in C order and little-endian; see [`write_atomically`].
    ///
    /// # Errors
    /// [`Error::Io`] when the file can't be written; what stood there before then still does.
    pub fn write_npy(&self, path: impl AsRef<Path>) -> Result<()> {
        write_atomically(path, |stream| {
            let dims: Vec<u64> = self.dims().iter().map(|&d| d as u64).collect();
            let mut writer = npyz::WriteOptions::<T>::new().default_dtype().shape(&dims).writer(stream).begin_nd()?;
            writer.extend(self.as_slice().iter().copied())?;
            writer.finish()
        })
    }
}

/// A file whose header has been read and found to agree with its length.
struct NpyFile<'a> {
    path: &'a Path,
    stream: BufReader<File>,
    dtype: DType,
    shape: Shape,
    order: Order,
    /// Bytes behind the header.
    data: u64,
}

impl<'a> NpyFile<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let io = |source| Error::Io { path: path.into(), source };
        let bad = |reason: String| Error::Format { path: path.into(), reason };
        let file = regular_file::open(path)?;
        let metadata = file.metadata().map_err(io)?;
        let mut stream = BufReader::new(file);
        let text = read_header(&mut stream, metadata.len()).map_err(io)?.map_err(bad)?;
        check_header(&text).map_err(bad)?;
        let header = NpyHeader::from_reader(&text[..]).map_err(|e| bad(format!("its header is malformed: {e}")))?;
        let dims = header.shape().iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>();
        let dims = dims.map_err(|_| bad(format!("its shape {:?} is larger than the address space", header.shape())))?;
        let shape = Shape::new(&dims).map_err(|e| bad(e.to_string()))?;
        let data = metadata.len().saturating_sub(text.len() as u64);
        Ok(NpyFile { path, stream, dtype: header.dtype(), shape, order: header.order(), data })
    }

    fn holds<T: NpyElement>(&self) -> bool {
        matches!(&self.dtype, DType::Plain(t) if t.type_char() == T::KIND && t.size_field() == size_of::<T>() as u64)
    }

    fn wrong_type(&self, expected: &str) -> Error {
        let found = match &self.dtype {
            DType::Plain(t) => match (t.type_char(), t.size_field().saturating_mul(8)) {
                (TypeChar::Bool, _) => "bool".into(),
                (TypeChar::Int, bits) => format!("int{bits}"),
                (TypeChar::Uint, bits) => format!("uint{bits}"),
                (TypeChar::Float, bits) => format!("float{bits}"),
                (TypeChar::Complex, bits) => format!("complex{bits}"),
                _ => format!("{t}"),
            },
            other => other.descr(),
        };
        Error::DType { what: self.path.display().to_string(), expected: expected.into(), found }
    }

    fn into_tensor<T: NpyElement>(mut self) -> Result<Tensor<T>> {
        let bad = |reason: String| Error::Format { path: self.path.into(), reason };
        let needed = (self.shape.elements() * size_of::<T>()) as u64;
        if self.data != needed {
            let what = if self.data < needed { "truncated" } else { "longer than it should be" };
            return Err(bad(format!("{what}: shape {} of {} takes {needed} bytes, found {}", self.shape, T::NAME, self.data)));
        }
        let mut tensor = Tensor::<T>::zeros(self.shape)?;
        self.stream.read_exact(tensor.as_bytes_mut()).map_err(|source| Error::Io { path: self.path.into(), source })?;
        let foreign = if cfg!(target_endian = "little") { npyz::Endianness::Big } else { npyz::Endianness::Little };
        if matches!(&self.dtype, DType::Plain(t) if t.endianness() == foreign) {
            tensor.as_bytes_mut().chunks_exact_mut(size_of::<T>()).for_each(<[u8]>::reverse);
        }
        if self.order == Order::Fortran { from_fortran(&tensor) } else { Ok(tensor) }
    }
}

/// The file from its first byte to the last one of the header. The inner error says what is wrong with it.
fn read_header(stream: &mut impl Read, length: u64) -> io::Result<Result<Vec<u8>, String>> {
    let mut start = Vec::with_capacity(12);
    stream.take(12).read_to_end(&mut start)?;
    let not_npy = || Ok(Err("not a .npy file: it does not begin with \\x93NUMPY, a version and a header".to_string()));
    let &[0x93, b'N', b'U', b'M', b'P', b'Y', major, minor, a, b, c, d] = &start[..] else { return not_npy() };
    let (prefix, header) = match (major, minor) {
        (1, 0) => (10, usize::from(u16::from_le_bytes([a, b]))),
        (2 | 3, 0) => (12, u32::from_le_bytes([a, b, c, d]) as usize),
        _ => return Ok(Err(format!("version {major}.{minor} of the .npy format is unknown; 1.0, 2.0 and 3.0 are read"))),
    };
    if header > MAX_HEADER {
        return Ok(Err(format!("its header takes {header} bytes; at most {MAX_HEADER} are read")));
    }
    let end = prefix + header;
    if length < end as u64 || end < start.len() {
        return Ok(Err(format!("truncated: its header takes {header} bytes, the file has {length}")));
    }
    let mut rest = vec![0; end - start.len()];
    stream.read_exact(&mut rest)?;
    start.append(&mut rest);
    Ok(Ok(start))
}

/// Refuses what would take the parser of Python literals long (it recurses into brackets, and tries each in two ways) or make
/// the product of the dimensions overflow. The header of a plain array has two brackets, and its numbers are decimal.
fn check_header(text: &[u8]) -> Result<(), String> {
    if text.iter().filter(|b| b"([{".contains(b)).count() > 8 {
        return Err("its header nests too deep for an array of numbers".into());
    }
    let mut product = Some(1u64);
    // The magic and the version before the text hold no digits; the two or four bytes of its length may look like one.
    let text = text.get(if text.get(6) == Some(&1) { 10.. } else { 12.. }).unwrap_or_default();
    let mut rest = text;
    while let Some(start) = rest.iter().position(u8::is_ascii_digit) {
        let digits = rest.get(start..).unwrap_or_default();
        let (number, tail) = digits.split_at(digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len()));
        if tail.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_') {
            return Err("its header has a number that NumPy does not write".into());
        }
        let value = std::str::from_utf8(number).ok().and_then(|n| n.parse::<u64>().ok());
        product = product.zip(value).and_then(|(p, v)| p.checked_mul(v.max(1)));
        rest = tail;
    }
    product.map(drop).ok_or_else(|| "its shape has more elements than any file".into())
}

/// From first dimension fastest to last dimension fastest.
fn from_fortran<T: Element>(source: &Tensor<T>) -> Result<Tensor<T>> {
    let mut target = Tensor::zeros(source.shape())?;
    let dims = source.dims();
    let mut strides = vec![1; dims.len()];
    for axis in 1..dims.len() {
        strides[axis] = strides[axis - 1] * dims[axis - 1];
    }
    let mut index = vec![0; dims.len()];
    let mut offset = 0;
    for to in target.as_mut_slice() {
        *to = source.as_slice()[offset];
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            offset += strides[axis];
            if index[axis] < dims[axis] {
                break;
            }
            offset -= strides[axis] * dims[axis];
            index[axis] = 0;
        }
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn array(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        npy(&format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n"), data)
    }

    fn read<T: NpyElement>(bytes: &[u8]) -> Result<Tensor<T>> {
        let file = tempfile::Builder::new().suffix("-array.npy").tempfile().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Tensor::read_npy(file.path())
    }

    /// The message, after a check that the error is a `Format` error and names the file.
    fn refused(bytes: &[u8]) -> String {
        match read::<f32>(bytes) {
            Err(e @ Error::Format { .. }) => {
                assert!(e.to_string().contains("-array.npy"), "{e}");
                e.to_string()
            }
            other => panic!("{:?} gave {other:?}", String::from_utf8_lossy(bytes)),
        }
    }

    fn round_trip<T: NpyElement>(values: &[T]) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.npy");
        for shape in [&[6][..], &[2, 3], &[1, 3, 1, 2], &[1, 1, 2, 1, 3, 1]] {
            let tensor = Tensor::from_slice(Shape::new(shape).unwrap(), values).unwrap();
            tensor.write_npy(&path).unwrap();
            assert_eq!(Tensor::<T>::read_npy(&path).unwrap(), tensor);
            let any = NpyTensor::read(&path).unwrap();
            assert_eq!((any.dims(), any.dtype()), (shape, T::NAME));
        }
        for shape in [&[0][..], &[2, 0, 3]] {
            let nothing = Tensor::<T>::zeros(Shape::new(shape).unwrap()).unwrap();
            nothing.write_npy(&path).unwrap();
            assert_eq!(Tensor::<T>::read_npy(&path).unwrap().dims(), shape);
        }
        let scalar = Tensor::from_slice(Shape::new(&[]).unwrap(), &values[..1]).unwrap();
        scalar.write_npy(&path).unwrap();
        assert_eq!(Tensor::<T>::read_npy(&path).unwrap(), scalar);
    }

    #[test]
    fn every_element_type_goes_out_and_in() {
        round_trip(&[1f32, -0.5, f32::MAX, f32::MIN_POSITIVE, 0.0, f32::INFINITY]);
        round_trip(&[1f64, -0.1, f64::MAX, f64::MIN_POSITIVE, 0.0, f64::NEG_INFINITY]);
        round_trip(&[1.0, -0.5, 65_504.0, 6e-8, 0.0, 3.25].map(f16::from_f64));
        round_trip(&[0u8, 1, 127, 128, 254, 255]);
        round_trip(&[0i8, 1, 127, -128, -1, 3]);
        round_trip(&[0u16, 1, 255, 256, u16::MAX, 999]);
        round_trip(&[0i16, -1, i16::MAX, i16::MIN, 281, 999]);
        round_trip(&[0u32, 1, 65_536, 256, u32::MAX, 999]);
        round_trip(&[0i32, -1, i32::MAX, i32::MIN, 281, 999]);
        round_trip(&[0i64, -1, i64::MAX, i64::MIN, 281, 999]);
    }

    #[test]
    fn the_bytes_are_numpys() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.npy");
        Tensor::from_slice(Shape::new(&[1, 2]).unwrap(), &[1f32, -2.0]).unwrap().write_npy(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
        let text = std::str::from_utf8(&bytes[10..bytes.len() - 8]).unwrap();
        assert!(text.contains("'descr': '<f4'") && text.contains("'shape': (1, 2") && text.ends_with('\n'), "{text}");
        assert_eq!((bytes.len() - 8) % 16, 0);
        assert_eq!(&bytes[bytes.len() - 8..], [0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]);
    }

    #[test]
    fn nothing_is_converted_silently() {
        let file = array("<f8", "False", "(1,)", &1f64.to_le_bytes());
        match read::<f32>(&file) {
            Err(Error::DType { what, expected, found }) => {
                assert!(what.ends_with("-array.npy") && expected == "float32" && found == "float64", "{what} {expected} {found}");
            }
            other => panic!("{other:?}"),
        }
        for (descr, size, name) in
            [("|b1", 1, "bool"), ("<u2", 2, "uint16"), ("<c8", 8, "complex64"), ("|V2", 2, "|V2"), ("<i4", 4, "int32")]
        {
            let file = array(descr, "False", "(1,)", &vec![0; size]);
            match read::<f32>(&file) {
                Err(Error::DType { found, .. }) => assert_eq!(found, name),
                other => panic!("{descr}: {other:?}"),
            }
        }
        let record = npy("{'descr': [('a', '<f4'), ('b', '<f4')], 'fortran_order': False, 'shape': (1,)}\n", &[0; 8]);
        assert!(matches!(read::<f32>(&record), Err(Error::DType { .. })));
        let temporary = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(temporary.path(), array("<u8", "False", "(1,)", &[0; 8])).unwrap();
        let error = NpyTensor::read(temporary.path()).unwrap_err().to_string();
        assert!(error.contains("float32, float64, float16, uint8, int8, uint16, int16, uint32, int32, int64"), "{error}");
        assert!(error.contains("found uint64"), "{error}");
    }

    #[test]
    fn exact_widening_by_kind() {
        let shape = Shape::new(&[2]).unwrap();
        let f32s = NpyTensor::F32(Tensor::from_slice(shape, &[0.1, -1.0]).unwrap());
        assert_eq!(f32s.to_f64().unwrap().unwrap().as_slice(), [f64::from(0.1f32), -1.0]);
        assert!(f32s.to_i64().unwrap().is_none());
        let u8s = NpyTensor::U8(Tensor::from_slice(shape, &[255, 7]).unwrap());
        assert_eq!(u8s.to_i64().unwrap().unwrap().as_slice(), [255, 7]);
        assert!(u8s.to_f64().unwrap().is_none());
        let widened = [
            NpyTensor::U16(Tensor::from_slice(shape, &[u16::MAX, 7]).unwrap()),
            NpyTensor::I16(Tensor::from_slice(shape, &[i16::MIN, 7]).unwrap()),
            NpyTensor::U32(Tensor::from_slice(shape, &[u32::MAX, 7]).unwrap()),
            NpyTensor::I32(Tensor::from_slice(shape, &[i32::MIN, 7]).unwrap()),
        ];
        let first = widened.map(|integers| integers.to_i64().unwrap().unwrap().as_slice()[0]);
        assert_eq!(first, [i64::from(u16::MAX), i64::from(i16::MIN), i64::from(u32::MAX), i64::from(i32::MIN)]);
    }

    #[test]
    fn big_endian_is_read() {
        let mut data = Vec::new();
        [1f32, -2.5].iter().for_each(|v| data.extend(v.to_be_bytes()));
        assert_eq!(read::<f32>(&array(">f4", "False", "(2,)", &data)).unwrap().as_slice(), [1.0, -2.5]);
        assert_eq!(read::<i32>(&array(">i4", "False", "()", &(-7i32).to_be_bytes())).unwrap().as_slice(), [-7]);
        assert_eq!(read::<i64>(&array(">i8", "False", "()", &(-7i64).to_be_bytes())).unwrap().as_slice(), [-7]);
    }

    #[test]
    fn fortran_order_is_transposed() {
        // What NumPy writes for np.arange(24).reshape(2, 3, 4) in Fortran order.
        let mut data = Vec::new();
        for c in 0..4 {
            for b in 0..3 {
                for a in 0..2 {
                    data.push(a * 12 + b * 4 + c);
                }
            }
        }
        let tensor = read::<u8>(&array("|u1", "True", "(2, 3, 4)", &data)).unwrap();
        assert_eq!(tensor.as_slice(), (0..24).collect::<Vec<u8>>());
        assert_eq!(read::<u8>(&array("|u1", "True", "(3,)", &[7, 8, 9])).unwrap().as_slice(), [7, 8, 9]);
        assert_eq!(read::<u8>(&array("|u1", "True", "()", &[7])).unwrap().as_slice(), [7]);
    }

    #[test]
    fn versions_two_and_three_are_read() {
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }\n";
        for version in [2, 3] {
            let mut bytes = b"\x93NUMPY".to_vec();
            bytes.extend([version, 0]);
            bytes.extend((header.len() as u32).to_le_bytes());
            bytes.extend(header.as_bytes());
            bytes.extend(1.5f32.to_le_bytes());
            assert_eq!(read::<f32>(&bytes).unwrap().as_slice(), [1.5]);
        }
        assert!(refused(b"\x93NUMPY\x04\x00\x01\x00\x00\x00").contains("version 4.0"));
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = array("<f4", "False", "(2, 2)", &[0; 16]);
        assert!(read::<f32>(&whole).is_ok());
        for length in 0..whole.len() {
            refused(&whole[..length]);
        }
        assert!(refused(&whole[..whole.len() - 1]).contains("truncated: shape [2, 2] of float32 takes 16 bytes, found 15"));
        let longer = [&whole[..], b"x"].concat();
        assert!(refused(&longer).contains("takes 16 bytes, found 17"));
    }

    #[test]
    fn lying_shapes_are_refused_before_allocation() {
        // The dimensions multiply to 0 in 64 bits, to 2^40 bytes, to more than a u64, and to numbers out of any range.
        for shape in [
            "(4294967296, 4294967296)",
            "(274877906944,)",
            "(18446744073709551615, 1)",
            "(0, 18446744073709551615, 18446744073709551615)",
            "(99999999999999999999999,)",
            "(0xffffffffffffffff, 0xffffffffffffffff)",
            "(1_0000000000000, 1)",
            "(-1,)",
            "(1.5,)",
            "('a',)",
            "(1, 1, 1, 1, 1, 1, 1)",
            "5",
        ] {
            refused(&array("<f4", "False", shape, &[0; 4]));
        }
        assert!(refused(&array("<f4", "False", "(3, 0)", &[0; 4])).contains("longer"));
    }

    #[test]
    fn hostile_headers_are_refused_quickly() {
        for open in ["(", "[", "{", "{(", "{1:"] {
            refused(&array("<f4", "False", &open.repeat(3_000), &[]));
        }
        refused(&npy(&"9".repeat(9_999), &[]));
        refused(&npy("", &[]));
        refused(&npy("{}", &[]));
        refused(&npy("{'descr': '<f4', 'fortran_order': 'no', 'shape': (1,)}", &[0; 4]));
        refused(&npy("{'descr': '<f3', 'fortran_order': False, 'shape': (1,)}", &[0; 4]));
        refused(&npy("{'descr': '<f4', 'fortran_order': False}", &[0; 4]));
        refused(&npy("\u{ff}{'descr", &[0; 4]));
        let mut long = b"\x93NUMPY\x02\x00".to_vec();
        long.extend(u32::MAX.to_le_bytes());
        assert!(refused(&long).contains("4294967295 bytes; at most 10000"));
        assert!(matches!(Tensor::<f32>::read_npy("no/such/file.npy"), Err(Error::Io { path, .. }) if path.ends_with("file.npy")));
        let directory = tempfile::tempdir().unwrap();
        let error = Tensor::<f32>::read_npy(directory.path()).unwrap_err().to_string();
        assert!(error.contains("regular file"), "{error}");
    }

    #[test]
    fn random_damage_never_panics() {
        let whole = array("<f4", "True", "(2, 2)", &[0; 16]);
        let mut state = 7u64;
        let mut next = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut refusals = 0;
        for _ in 0..400 {
            let mut bytes = whole.clone();
            for _ in 0..1 + next(3) {
                let at = next(bytes.len());
                bytes[at] = b"0123456789(){}[]',:<>xL\x00\xff"[next(25)];
            }
            std::fs::write(file.path(), &bytes).unwrap();
            refusals += usize::from(NpyTensor::read(file.path()).is_err());
        }
        assert!(refusals > 150, "{refusals}");
    }
}

use abi_stable::StableAbi;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use std::fmt;

/// The type of a tensor's elements. Code, bits and lanes are those of DLPack 1.1's `DLDataType`
/// (<https://dmlc.github.io/dlpack/latest/c_api.html>), so that any type that it has can cross; the constants are
/// those with a name in registries.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DType {
    /// The kind of number: 0 signed integer, 1 unsigned integer, 2 IEEE float, 4 bfloat, 6 boolean, 10 float8 E4M3FN,
    /// 12 float8 E5M2, and others.
    pub code: u8,
    /// Bits of one lane.
    pub bits: u8,
    /// Lanes of one element, usually 1.
    pub lanes: u16,
}

impl DType {
    /// Booleans of one byte.
    pub const BOOL: Self = Self::of(6, 8);
    /// Signed bytes.
    pub const I8: Self = Self::of(0, 8);
    /// Signed 32-bit integers.
    pub const I32: Self = Self::of(0, 32);
    /// Signed 64-bit integers.
    pub const I64: Self = Self::of(0, 64);
    /// Unsigned bytes.
    pub const U8: Self = Self::of(1, 8);
    /// Unsigned 32-bit integers.
    pub const U32: Self = Self::of(1, 32);
    /// IEEE half precision.
    pub const F16: Self = Self::of(2, 16);
    /// Brain floating point.
    pub const BF16: Self = Self::of(4, 16);
    /// IEEE single precision.
    pub const F32: Self = Self::of(2, 32);
    /// IEEE double precision.
    pub const F64: Self = Self::of(2, 64);
    /// Eight-bit floats with four bits of exponent, without infinities.
    pub const F8_E4M3: Self = Self::of(10, 8);
    /// Eight-bit floats with five bits of exponent.
    pub const F8_E5M2: Self = Self::of(12, 8);

    const NAMES: [(Self, &'static str); 12] = [
        (Self::BOOL, "bool"),
        (Self::I8, "i8"),
        (Self::I32, "i32"),
        (Self::I64, "i64"),
        (Self::U8, "u8"),
        (Self::U32, "u32"),
        (Self::F16, "f16"),
        (Self::BF16, "bf16"),
        (Self::F32, "f32"),
        (Self::F64, "f64"),
        (Self::F8_E4M3, "f8-e4m3"),
        (Self::F8_E5M2, "f8-e5m2"),
    ];

    const fn of(code: u8, bits: u8) -> Self {
        Self {
            code,
            bits,
            lanes: 1,
        }
    }

    /// Returns the number of bytes of `elements` packed elements, or `None` if it overflows.
    pub fn bytes(self, elements: usize) -> Option<usize> {
        let bits = usize::from(self.bits) * usize::from(self.lanes);
        Some(elements.checked_mul(bits)?.div_ceil(8))
    }

    /// Returns the number of bytes of one element.
    pub fn size(self) -> usize {
        (usize::from(self.bits) * usize::from(self.lanes)).div_ceil(8)
    }

    /// Returns the name used in registries, such as `f32`, if the type has one.
    pub fn name(self) -> Option<&'static str> {
        let mut names = Self::NAMES.iter();
        names
            .find(|(known, _)| *known == self)
            .map(|(_, name)| *name)
    }

    /// Returns the type with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        let mut names = Self::NAMES.iter();
        names
            .find(|(_, known)| *known == name)
            .map(|(known, _)| *known)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "dtype {}:{}x{}", self.code, self.bits, self.lanes),
        }
    }
}

impl fmt::Debug for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DType({self})")
    }
}

impl Serialize for DType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.name() {
            Some(name) => serializer.serialize_str(name),
            None => Err(ser::Error::custom(format!("{self} has no name"))),
        }
    }
}

impl<'de> Deserialize<'de> for DType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::from_name(&name).ok_or_else(|| {
            let known = Self::NAMES.map(|(_, name)| name).join(", ");
            de::Error::custom(format!("expected a dtype ({known}), found `{name}`"))
        })
    }
}

/// A Rust type that corresponds to a [`DType`].
///
/// # Safety
///
/// `DTYPE` must describe the type exactly, and every bit pattern must be a valid value of the type.
pub unsafe trait TensorElement: Copy + Send + Sync + 'static {
    /// The matching dtype.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($element:ty => $dtype:ident),+ $(,)?) => {
        $(
            // SAFETY: the type and the dtype have the same size and meaning, and all bit patterns are valid.
            unsafe impl TensorElement for $element {
                const DTYPE: DType = DType::$dtype;
            }
        )+
    };
}

elements! {
    i8 => I8,
    i32 => I32,
    i64 => I64,
    u8 => U8,
    u32 => U32,
    half::f16 => F16,
    half::bf16 => BF16,
    f32 => F32,
    f64 => F64,
}

/// Defines a code that crosses as a `u32`: a type with named constants, and names for messages and JSON.
macro_rules! open_code {
    (
        $(#[$meta:meta])*
        $code:ident, $what:literal {
            $($(#[$doc:meta])* $constant:ident = $number:literal, $name:literal;)+
        }
    ) => {
        $(#[$meta])*
        #[repr(transparent)]
        #[derive(abi_stable::StableAbi, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $code(u32);

        impl $code {
            $($(#[$doc])* pub const $constant: Self = Self($number);)+

            const NAMES: &[(Self, &'static str)] = &[$((Self::$constant, $name)),+];

            /// Returns the code with this number, which need not have a name yet.
            pub const fn from_number(number: u32) -> Self {
                Self(number)
            }

            /// Returns the number that crosses the boundary.
            pub const fn number(self) -> u32 {
                self.0
            }

            /// Returns the name, if this version of the API has one for it.
            pub fn name(self) -> Option<&'static str> {
                let mut names = Self::NAMES.iter();
                names.find(|(code, _)| *code == self).map(|(_, name)| *name)
            }

            /// Returns the code with this name, if this version of the API has it.
            pub fn from_name(name: &str) -> Option<Self> {
                let mut names = Self::NAMES.iter();
                names.find(|(_, known)| *known == name).map(|(code, _)| *code)
            }
        }

        impl std::fmt::Display for $code {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, concat!($what, " {}"), self.0),
                }
            }
        }

        impl std::fmt::Debug for $code {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($code), "({})"), self)
            }
        }

        impl serde::Serialize for $code {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self.name() {
                    Some(name) => serializer.serialize_str(name),
                    None => Err(serde::ser::Error::custom(self)),
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $code {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = String::deserialize(deserializer)?;
                Self::from_name(&name).ok_or_else(|| {
                    let known: Vec<_> = Self::NAMES.iter().map(|(_, name)| *name).collect();
                    serde::de::Error::custom(format!(
                        concat!("expected the ", $what, " {}; found `{}`"), known.join(" or "), name
                    ))
                })
            }
        }
    };
}

pub(crate) use open_code;

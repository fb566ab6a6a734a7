//! Choosing where tensors live.

use std::fmt;
use std::panic::catch_unwind;
use std::str::FromStr;

use candle_core::{Device, DeviceLocation};

use crate::error::{ModelError, Result};

/// A device as the user names it: `auto`, `cpu`, `metal` or `cuda:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first GPU that this build supports and this machine has, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The Apple GPU.
    Metal,
    /// The NVIDIA GPU with this ordinal.
    Cuda(usize),
}

impl DeviceChoice {
    /// The choice of this very device.
    pub fn of(device: &Device) -> Self {
        match device.location() {
            DeviceLocation::Cpu => Self::Cpu,
            DeviceLocation::Metal { .. } => Self::Metal,
            DeviceLocation::Cuda { gpu_id } => Self::Cuda(gpu_id),
        }
    }

    /// Opens the device.
    ///
    /// # Errors
    /// [`ModelError::Device`] when this build lacks the backend or the machine lacks the device.
    pub fn open(self) -> Result<Device> {
        let refuse = |name: String, reason: String| Err(ModelError::Device { name, reason });
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Auto if cfg!(feature = "metal") => Self::Metal.open().or(Ok(Device::Cpu)),
            Self::Auto if cfg!(feature = "cuda") => Self::Cuda(0).open().or(Ok(Device::Cpu)),
            Self::Auto => Ok(Device::Cpu),
            Self::Metal if !cfg!(feature = "metal") => refuse(
                "metal".into(),
                "this build has no Metal support: build with `--features metal`".into(),
            ),
            // candle takes the first of a list of GPUs without a look whether there is one.
            Self::Metal => match catch_unwind(|| Device::new_metal(0)) {
                Ok(device) => device.or_else(|cause| refuse("metal".into(), cause.to_string())),
                Err(_) => refuse("metal".into(), "this machine has no Metal GPU".into()),
            },
            Self::Cuda(ordinal) if !cfg!(feature = "cuda") => refuse(
                format!("cuda:{ordinal}"),
                "this build has no CUDA support: build with `--features cuda`".into(),
            ),
            Self::Cuda(ordinal) => Device::new_cuda(ordinal)
                .or_else(|cause| refuse(format!("cuda:{ordinal}"), cause.to_string())),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Metal => f.write_str("metal"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || ModelError::Device {
            name: text.to_string(),
            reason: "expected `auto`, `cpu`, `metal` or `cuda:N`".into(),
        };
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "metal" => Ok(Self::Metal),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let ordinal = text.strip_prefix("cuda:").ok_or_else(unknown)?;
                Ok(Self::Cuda(ordinal.parse().map_err(|_| unknown())?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_nonsense_is_refused() {
        assert_eq!("auto".parse::<DeviceChoice>().unwrap(), DeviceChoice::Auto);
        assert_eq!("cuda:3".parse::<DeviceChoice>().unwrap(), DeviceChoice::Cuda(3));
        for name in ["auto", "cpu", "metal", "cuda:3"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        for bad in ["", "gpu", "cuda:", "cuda:x", "CPU "] {
            assert!(bad.parse::<DeviceChoice>().is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn an_open_device_has_a_name_that_opens_it() {
        let device = DeviceChoice::Cpu.open().unwrap();
        assert_eq!(DeviceChoice::of(&device), DeviceChoice::Cpu);
    }

    #[cfg(not(feature = "metal"))]
    #[test]
    fn a_backend_that_is_not_compiled_in_says_how_to_get_it() {
        let error = DeviceChoice::Metal.open().unwrap_err().to_string();
        assert!(error.contains("--features metal"), "{error}");
    }
}

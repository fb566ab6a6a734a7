//! What a PyTorch pickle says about its tensors.

use candle_core::DType;
use candle_core::pickle::{Object, Stack};

use super::pickle_scan::scan;

/// Where and how one tensor of a PyTorch archive is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PickledTensor {
    pub(super) name: String,
    pub(super) dtype: DType,
    pub(super) shape: Vec<usize>,
    /// In elements.
    pub(super) strides: Vec<usize>,
    /// Elements before the first one of this tensor in its storage.
    pub(super) offset: usize,
    /// The entry under `data/` that holds the storage; tied tensors share one.
    pub(super) storage: String,
}

/// The tensors of a pickled state dict. Values that are no tensors (metadata) are passed over.
///
/// # Errors
/// What is wrong with the pickle, in words.
pub(super) fn tensors(pickle: &[u8]) -> Result<Vec<PickledTensor>, String> {
    scan(pickle).map_err(|cause| format!("its pickle cannot be used: {cause}"))?;
    let mut stack = Stack::empty();
    let mut reader = pickle;
    stack
        .read_loop(&mut reader)
        .and_then(|()| stack.finalize())
        .map_err(|cause| format!("its pickle cannot be read ({cause})"))
        .and_then(|root| match root {
            Object::Dict(entries) => Ok(entries),
            _ => Err("it does not hold a state dict (a dictionary of tensors)".to_string()),
        })?
        .into_iter()
        .filter_map(|(key, value)| match (key, value) {
            (Object::Unicode(name), value @ Object::Reduce { .. }) => {
                tensor(&name, value).transpose()
            }
            _ => None,
        })
        .collect()
}

/// Reads the call that rebuilds a tensor; `None` for any other call.
fn tensor(name: &str, value: Object) -> Result<Option<PickledTensor>, String> {
    let Object::Reduce { callable, args } = value else { return Ok(None) };
    let (Object::Class { class_name, .. }, Object::Tuple(args)) = (*callable, *args) else {
        return Ok(None);
    };
    match class_name.as_str() {
        "_rebuild_tensor_v2" => {
            let malformed = || format!("tensor `{name}` is described in an unknown way");
            rebuilt(name, &args)?.ok_or_else(malformed).map(Some)
        }
        // `nn.Parameter` wraps the tensor that is its first argument.
        "_rebuild_parameter" => args.into_iter().next().map_or(Ok(None), |data| tensor(name, data)),
        _ => Ok(None),
    }
}

/// Arguments: storage, storage offset, size, stride, and more that does not matter here.
fn rebuilt(name: &str, args: &[Object]) -> Result<Option<PickledTensor>, String> {
    let [Object::PersistentLoad(storage), offset, size, stride, ..] = args else { return Ok(None) };
    let Object::Tuple(storage) = &**storage else { return Ok(None) };
    // The tag "storage", its class, its entry in the archive, the device, its length.
    let [_, Object::Class { class_name, .. }, Object::Unicode(entry), ..] = storage.as_slice()
    else {
        return Ok(None);
    };
    let dtype = match class_name.as_str() {
        "FloatStorage" => DType::F32,
        "DoubleStorage" => DType::F64,
        "HalfStorage" => DType::F16,
        "BFloat16Storage" => DType::BF16,
        "LongStorage" => DType::I64,
        "ByteStorage" | "BoolStorage" => DType::U8,
        other => return Err(format!("tensor `{name}` has a {other}, which is not supported")),
    };
    let (Some(offset), Some(shape), Some(strides)) =
        (length(offset), lengths(size), lengths(stride))
    else {
        return Ok(None);
    };
    let (name, storage) = (name.to_string(), entry.clone());
    Ok(Some(PickledTensor { name, dtype, shape, strides, offset, storage }))
}

fn length(object: &Object) -> Option<usize> {
    match object {
        Object::Int(value) => usize::try_from(*value).ok(),
        Object::Long(value) => usize::try_from(*value).ok(),
        _ => None,
    }
}

fn lengths(object: &Object) -> Option<Vec<usize>> {
    match object {
        Object::Tuple(values) => values.iter().map(length).collect(),
        _ => None,
    }
}

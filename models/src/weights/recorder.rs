//! A source that has every tensor and remembers which were asked for.
//!
//! Constructing a model over it yields the list of parameters that the architecture wants, so that the list
//! need not be written down a second time: checkpoints are validated, sized and synthesised from it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use candle_core::{DType, Device, Shape, Tensor};

use super::{TensorInfo, TensorSource, Weights};
use crate::error::Result;

/// Answers every read with zeros of the wanted shape (one element, broadcast: it costs no memory).
#[derive(Default)]
pub struct ParameterRecorder {
    asked: Mutex<BTreeMap<String, Asked>>,
    larger_layouts: AtomicUsize,
}

struct Asked {
    /// How many others were asked for before.
    rank: usize,
    shape: Vec<usize>,
}

impl ParameterRecorder {
    /// Every parameter that `load` asks for: official name to shape.
    ///
    /// # Errors
    /// Whatever `load` brings up.
    pub fn record(
        load: impl FnOnce(&Weights) -> Result<()>,
    ) -> Result<BTreeMap<String, Vec<usize>>> {
        let recorder = Arc::new(Self::default());
        load(&Weights::new(recorder.clone(), DType::F32, &Device::Cpu))?;
        Ok(recorder.parameters())
    }

    /// As [`ParameterRecorder::record`], in the order in which `load` asks.
    ///
    /// # Errors
    /// Whatever `load` brings up.
    pub fn record_in_order(
        load: impl FnOnce(&Weights) -> Result<()>,
    ) -> Result<Vec<(String, Vec<usize>)>> {
        let recorder = Arc::new(Self::default());
        load(&Weights::new(recorder.clone(), DType::F32, &Device::Cpu))?;
        let asked = recorder.asked();
        let mut ranked: Vec<_> =
            asked.iter().map(|(name, asked)| (asked.rank, name, &asked.shape)).collect();
        ranked.sort();
        Ok(ranked.into_iter().map(|(_, name, shape)| (name.clone(), shape.clone())).collect())
    }

    /// What was asked for so far: name to shape.
    pub fn parameters(&self) -> BTreeMap<String, Vec<usize>> {
        let asked = self.asked();
        asked.iter().map(|(name, asked)| (name.clone(), asked.shape.clone())).collect()
    }

    /// Elements that layouts have beyond those of the parameters.
    pub(super) fn larger_layouts(&self) -> usize {
        self.larger_layouts.load(Ordering::Relaxed)
    }

    fn asked(&self) -> MutexGuard<'_, BTreeMap<String, Asked>> {
        self.asked.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl TensorSource for ParameterRecorder {
    fn location(&self) -> &Path {
        Path::new("(parameter recorder)")
    }

    fn names(&self) -> Vec<String> {
        self.parameters().into_keys().collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let shape = self.parameters().remove(name)?;
        Some(TensorInfo { shape, dtype: DType::F32, stored_bytes: 0 })
    }

    fn note_larger_layout(&self, more_elements: usize) {
        self.larger_layouts.fetch_add(more_elements, Ordering::Relaxed);
    }

    /// It has every tensor, optional ones too; but those that nobody asked for yet have no header.
    fn has(&self, _name: &str) -> bool {
        true
    }

    fn read(&self, name: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        let mut asked = self.asked();
        let rank = asked.len();
        let shape_asked = shape.dims().to_vec();
        asked.entry(name.to_string()).or_insert(Asked { rank, shape: shape_asked });
        Ok(Tensor::zeros((), dtype, device)?.broadcast_as(shape)?)
    }

    fn read_rows(
        &self,
        name: &str,
        shape: &Shape,
        rows: &[u32],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let table = self.read(name, shape, dtype, device)?;
        // All rows are the same zeros, so any of them will do; an empty selection must still be one.
        Ok(table.narrow(0, 0, 1)?.broadcast_as([&[rows.len()], &shape.dims()[1..]].concat())?)
    }
}

//! Which tokens of a step pass a block together, without regard to all others.

use crate::stdit3::context::TokenGrid;
use crate::stdit3::merge::TemporalTokenMerge;

use super::AttentionAxis;

/// Frames that go through the attentions as one: their mean goes in, and all get what comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FrameGroup {
    first: usize,
    /// Those whose mean goes in: one or two.
    sources: usize,
    /// Those that get the result: the sources, and with them a last one that is left out of the attentions.
    targets: usize,
}

/// One token that the attentions see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MergedToken {
    /// Its first token in [`TokenGroup::tokens`]; the others follow.
    pub(super) first: usize,
    /// Those whose mean it is: one or two.
    pub(super) sources: usize,
    /// Those that get what comes of it.
    pub(super) targets: usize,
}

/// One token of the video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct VideoToken {
    /// Its place among all rows' tokens.
    pub(super) place: usize,
    pub(super) frame: usize,
}

/// Whole sequences of one row: nothing outside of them has a part in what they become in a block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TokenGroup {
    /// The row of the batch.
    pub(super) row: usize,
    pub(super) tokens: Vec<VideoToken>,
    /// Sequence after sequence.
    pub(super) merged: Vec<MergedToken>,
    /// Merged tokens of a sequence.
    pub(super) length: usize,
}

/// Splits the tokens of all rows into groups of whole sequences with about `merged_tokens` merged tokens each.
pub(super) fn token_groups(
    grid: &TokenGrid,
    rows: usize,
    axis: AttentionAxis,
    merge: Option<TemporalTokenMerge>,
    merged_tokens: usize,
) -> Vec<TokenGroup> {
    let (frames, spots) = (grid.frames(), grid.spots());
    let frame_groups = frame_groups(frames, merge);
    let (sequences, length) = match axis {
        AttentionAxis::Spatial => (frame_groups.len(), spots),
        AttentionAxis::Temporal => (spots, frame_groups.len()),
    };
    let together = (merged_tokens / length.max(1)).clamp(1, sequences.max(1));
    // As many in each group, or nearly.
    let together = sequences.div_ceil(sequences.div_ceil(together).max(1)).max(1);
    let mut groups = Vec::new();
    for row in 0..rows {
        for first in (0..sequences).step_by(together) {
            let mut group = TokenGroup { row, tokens: Vec::new(), merged: Vec::new(), length };
            for sequence in first..sequences.min(first + together) {
                for index in 0..length {
                    let (frames_of, spot) = match axis {
                        AttentionAxis::Spatial => (frame_groups[sequence], index),
                        AttentionAxis::Temporal => (frame_groups[index], sequence),
                    };
                    group.add(frames_of, |frame| VideoToken {
                        place: (row * frames + frame) * spots + spot,
                        frame,
                    });
                }
            }
            groups.push(group);
        }
    }
    groups
}

impl TokenGroup {
    fn add(&mut self, frames: FrameGroup, token: impl Fn(usize) -> VideoToken) {
        let FrameGroup { first, sources, targets } = frames;
        self.merged.push(MergedToken { first: self.tokens.len(), sources, targets });
        self.tokens.extend((first..first + targets).map(token));
    }
}

/// As [`TemporalTokenMerge::merge`] and [`TemporalTokenMerge::unmerge`] have it.
fn frame_groups(frames: usize, merge: Option<TemporalTokenMerge>) -> Vec<FrameGroup> {
    let Some(merge) = merge.filter(|_| frames > 1) else {
        return (0..frames).map(|first| FrameGroup { first, sources: 1, targets: 1 }).collect();
    };
    let pair = |pair| FrameGroup { first: 2 * pair, sources: 2, targets: 2 };
    let mut groups: Vec<_> = (0..frames / 2).map(pair).collect();
    if !frames.is_multiple_of(2) {
        if merge.merged_frames(frames) > groups.len() {
            groups.push(FrameGroup { first: frames - 1, sources: 1, targets: 1 });
        } else if let Some(last) = groups.last_mut() {
            last.targets += 1;
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdit3::merge::OddFrame;

    #[test]
    fn each_token_is_in_one_group_whatever_the_axis_and_the_merging() {
        let merges = [None, Some(OddFrame::DropLast), Some(OddFrame::KeepLast)];
        for frames in 1..8 {
            let grid = TokenGrid::new([frames, 4, 6], [1, 2, 2]);
            for odd_frame in merges {
                let merge = odd_frame.map(|odd_frame| TemporalTokenMerge { odd_frame });
                let merged_frames = merge.map_or(frames, |merge| merge.merged_frames(frames));
                for axis in [AttentionAxis::Spatial, AttentionAxis::Temporal] {
                    for size in [1, 7, 1000] {
                        let groups = token_groups(&grid, 2, axis, merge, size);
                        let tokens = groups.iter().flat_map(|group| &group.tokens);
                        let mut places: Vec<_> = tokens.map(|token| token.place).collect();
                        places.sort_unstable();
                        assert_eq!(places, (0..2 * frames * 6).collect::<Vec<_>>());
                        let merged: usize = groups.iter().map(|group| group.merged.len()).sum();
                        assert_eq!(merged, 2 * merged_frames * 6);
                        for group in &groups {
                            assert!(group.merged.len().is_multiple_of(group.length));
                            assert!(size > 7 || group.merged.len() <= size.max(group.length));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_frame_that_is_dropped_gets_what_the_last_pair_gets() {
        let grid = TokenGrid::new([5, 2, 2], [1, 2, 2]);
        let merge = Some(TemporalTokenMerge { odd_frame: OddFrame::DropLast });
        let groups = token_groups(&grid, 1, AttentionAxis::Temporal, merge, 100);
        let merged = |first, targets| MergedToken { first, sources: 2, targets };
        assert_eq!(groups[0].merged, [merged(0, 2), merged(2, 3)]);
        let frames: Vec<_> = groups[0].tokens.iter().map(|token| token.frame).collect();
        assert_eq!(frames, [0, 1, 2, 3, 4]);
    }
}

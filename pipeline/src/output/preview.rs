//! A picture of an unfinished video, at a path where it is overwritten again and again.

use std::path::{Path, PathBuf};

use sora_actors::messages::VideoChunk;

use crate::sinks::{SinkError, picture_png};
use crate::whole_file::replace;

/// A PNG file that shows the latest preview. Whoever looks at it sees a whole picture at any time.
#[derive(Debug, Clone)]
pub struct PreviewFile {
    path: PathBuf,
}

impl PreviewFile {
    /// A file at `path`, which need not be there yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf() }
    }

    /// Puts the first frame of `picture` there.
    ///
    /// # Errors
    /// The operating system refuses; then the picture before is still there.
    pub fn show(&self, picture: &VideoChunk) -> Result<(), SinkError> {
        let Some(frame) = picture.frames.first() else { return Ok(()) };
        let png = picture_png(&self.path, picture.width_px, picture.height_px, frame)?;
        let failed = |source| SinkError::Io { target: self.path.clone(), source };
        replace(&self.path, &png).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use sora_actors::messages::RgbFrame;

    use super::*;

    #[test]
    fn the_latest_picture_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = PreviewFile::new(&folder.path().join("preview.png"));
        for shade in [1, 200] {
            let frames = vec![RgbFrame(vec![shade; 6])];
            file.show(&VideoChunk::new(0, 2, 1, frames).unwrap()).unwrap();
        }
        let bytes = std::fs::read(&file.path).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut rgb = [0; 6];
        reader.next_frame(&mut rgb).unwrap();
        assert_eq!((rgb, reader.info().size()), ([200; 6], (2, 1)));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_not_there_is_told() {
        let file = PreviewFile::new(Path::new("no/such/folder/preview.png"));
        let picture = VideoChunk::new(0, 1, 1, vec![RgbFrame(vec![0; 3])]).unwrap();
        let told = file.show(&picture).unwrap_err().to_string();
        assert!(told.contains("no/such/folder/preview.png"), "{told}");
    }
}

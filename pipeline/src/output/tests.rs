#![allow(clippy::unwrap_used)]

use super::*;

const FORMAT: VideoFormat = VideoFormat { width_px: 32, height_px: 32, num_frames: 1, fps: 8.0 };

fn target(folder: &Path, name: &str) -> OutputTarget {
    OutputTarget::new(&format!("{}/{name}", folder.display())).unwrap()
}

#[test]
fn missing_folders_are_created_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    target(folder.path(), "new/films/a.gif").check(FORMAT).unwrap();
    assert_eq!(fs::read_dir(folder.path().join("new/films")).unwrap().count(), 0);
}

#[test]
fn what_must_not_be_replaced_is_found_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir(path.join("a.gif")).unwrap();
    fs::create_dir(path.join("photos")).unwrap();
    fs::write(path.join("photos/holiday.png"), "mine").unwrap();
    fs::write(path.join("notes"), "mine").unwrap();
    fs::write(path.join("b.json"), "{\"mine\": true}").unwrap();
    fs::create_dir(path.join("slides")).unwrap();
    fs::write(path.join("slides/0000.png"), "another program's").unwrap();
    fs::write(path.join("c.mp4"), "an earlier video").unwrap();
    fs::write(path.join("c.json"), settings_of("c.mp4")).unwrap();
    fs::create_dir(path.join("d")).unwrap();
    fs::write(path.join("d/0000.png"), "another program's").unwrap();
    fs::write(path.join("d.json"), settings_of("d.gif")).unwrap();
    for (name, told) in [
        ("a.gif", "a folder"),
        ("photos/", "other things"),
        ("notes", "a file"),
        ("b.gif", "b.json"),
        ("slides/", "this program"),
        ("c.gif", "the settings of c.mp4"),
        ("c/", "the settings of c.mp4"),
        ("d/", "this program"),
    ] {
        let error = target(path, name).check(FORMAT).unwrap_err();
        assert!(matches!(error, OutputError::InTheWay { .. }), "{name}: {error}");
        assert!(error.to_string().contains(told), "{name}: {error}");
    }
}

fn settings_of(video: &str) -> String {
    format!(r#"{{"format": "{}", "video": {{"name": "{video}"}}}}"#, crate::sidecar::SIDECAR_FORMAT)
}

#[test]
fn what_an_earlier_run_made_may_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir(path.join("frames")).unwrap();
    target(path, "frames/").check(FORMAT).unwrap();
    fs::write(path.join("frames/0000.png"), "an earlier run").unwrap();
    fs::write(path.join("frames.json"), settings_of("frames")).unwrap();
    target(path, "frames/").check(FORMAT).unwrap();
    fs::write(path.join("a.gif"), "an earlier run").unwrap();
    fs::write(path.join("a.json"), settings_of("a.gif")).unwrap();
    target(path, "a.gif").check(FORMAT).unwrap();
    // Settings whose video is gone are of no use to anybody.
    fs::remove_file(path.join("a.gif")).unwrap();
    target(path, "a.png").check(FORMAT).unwrap();
}

#[test]
fn a_folder_that_is_a_file_is_not_writable() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let error = target(folder.path(), "file/a.gif").check(FORMAT).unwrap_err();
    assert!(matches!(error, OutputError::NotWritable { .. }), "{error}");
}

#[test]
fn the_settings_of_a_folder_lie_beside_it() {
    let target = OutputTarget::new("films/frames.v2/").unwrap();
    assert_eq!(target.kind(), SinkKind::FrameFolder);
    assert_eq!(target.sidecar(), Path::new("films/frames.v2.json"));
}

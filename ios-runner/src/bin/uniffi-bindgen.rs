//! Writes the bindings: `uniffi-bindgen generate LIBRARY --language swift --out-dir FOLDER`.

fn main() {
    uniffi::uniffi_bindgen_main();
}

//! Requests that nothing could fulfil are found before any work.

#![allow(clippy::unwrap_used)]

use sora_actors::messages::GenerationRequest;
use sora_models::prompt_notation::PromptScores;
use sora_models::rflow::SamplingSettings;

fn good() -> GenerationRequest {
    GenerationRequest {
        prompt: "a red circle".into(),
        negative_prompt: None,
        seed: 1,
        width_px: 64,
        height_px: 48,
        num_frames: 17,
        fps: 8.0,
        sampling: SamplingSettings::default(),
        scores: PromptScores::default(),
    }
}

#[test]
fn bad_requests_say_what_would_be_accepted() {
    assert!(good().check().is_ok());
    let bad = [
        (GenerationRequest { prompt: " \n".into(), ..good() }, "prompt is empty"),
        (GenerationRequest { prompt: "@home".into(), ..good() }, "nothing is left"),
        (GenerationRequest { prompt: "http://example.com".into(), ..good() }, "nothing is left"),
        (
            GenerationRequest { negative_prompt: Some("@home".into()), ..good() },
            "left of the negative prompt without",
        ),
        (GenerationRequest { width_px: 7, ..good() }, "at least 1 frame of 8x8"),
        (GenerationRequest { height_px: 0, ..good() }, "at least 1 frame of 8x8"),
        (GenerationRequest { num_frames: 0, ..good() }, "at least 1 frame"),
        (GenerationRequest { fps: f64::NAN, ..good() }, "above 0"),
        (GenerationRequest { fps: -8.0, ..good() }, "above 0"),
    ];
    for (request, expected) in bad {
        let error = request.check().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let sampling = SamplingSettings { steps: 0, ..SamplingSettings::default() };
    assert!(GenerationRequest { sampling, ..good() }.check().is_err());
}

#[test]
fn the_caption_is_the_prompt_with_its_scores_and_cleaned() {
    let scores = PromptScores { aesthetic: Some(6.5), ..PromptScores::default() };
    let request = GenerationRequest { prompt: "A Red circle @home".into(), scores, ..good() };
    assert_eq!(request.caption().unwrap(), "a red circle aesthetic score: 6.5.");
    // Scores alone are nothing to show.
    let nothing = GenerationRequest { prompt: "@home".into(), ..request };
    assert!(nothing.caption().is_err());
}

#[test]
fn a_negative_caption_is_cleaned_and_has_no_scores() {
    let scores = PromptScores { aesthetic: Some(6.5), ..PromptScores::default() };
    let negative = |text: &str| GenerationRequest { negative_prompt: Some(text.into()), ..good() };
    let request = GenerationRequest { scores, ..negative("Blurry @home") };
    let captions = request.captions().unwrap();
    assert_eq!(captions.prompt, "a red circle aesthetic score: 6.5.");
    assert_eq!(captions.negative.as_deref(), Some("blurry"));
    assert_eq!(request.text_count(), 2);
    // A blank one is none.
    for blank in ["", " \n"] {
        assert!(negative(blank).check().is_ok());
        assert_eq!(negative(blank).captions().unwrap(), good().captions().unwrap());
        assert_eq!(negative(blank).text_count(), 1);
    }
}

#[test]
fn a_request_survives_json() {
    let negative_prompt = Some("a \"blue\" one".to_string());
    for request in [good(), GenerationRequest { negative_prompt, ..good() }] {
        let json = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<GenerationRequest>(&json).unwrap(), request);
    }
    // One that was written before there were negative prompts.
    let mut before = serde_json::to_value(good()).unwrap();
    before.as_object_mut().unwrap().remove("negative_prompt").unwrap();
    assert_eq!(serde_json::from_value::<GenerationRequest>(before).unwrap(), good());
}

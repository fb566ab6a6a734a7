import Foundation
import Observation
import SoraKit

/// One video on its way, as a view shows it.
@Observable @MainActor
final class VideoProgress: Identifiable {
    enum Stage: Equatable, Sendable {
        case queued(position: Int)
        case embedding
        case denoising(done: Int, of: Int)
        case decoding(frames: Int, of: Int)
        case finished(seconds: Double)
        case cancelled
        case failed(String)
    }

    let id: String
    let prompt: String
    let frames: Int
    private(set) var stage = Stage.queued(position: 0)
    private(set) var preview: SoraFrame?
    private(set) var secondsLeft: Double?

    init(id: String, prompt: String, frames: Int) {
        self.id = id
        self.prompt = prompt
        self.frames = frames
    }

    /// How much is done, from 0 to 1, stage by stage; `nil` while that is not known.
    var fraction: Double? {
        switch stage {
        case .queued, .embedding: nil
        case .denoising(let done, let of): of > 0 ? Double(done) / Double(of) : nil
        case .decoding(let done, let of): of > 0 ? Double(done) / Double(of) : nil
        case .finished: 1
        case .cancelled, .failed: nil
        }
    }

    var isOver: Bool {
        switch stage {
        case .finished, .cancelled, .failed: true
        default: false
        }
    }

    func see(_ event: VideoEvent) {
        switch event {
        case .progress(let progress): see(progress)
        case .preview(_, let frame): preview = frame
        case .frames(let new): decoded(new.count, last: new.last)
        case .written(let count, let last): decoded(count, last: last)
        case .finished(let summary): stage = .finished(seconds: summary.seconds)
        }
    }

    private func decoded(_ count: Int, last: SoraFrame?) {
        guard case .decoding(let done, let of) = stage else { return }
        stage = .decoding(frames: done + count, of: of)
        preview = last ?? preview
    }

    func ended(with error: any Error) {
        stage = (error as? VideoError) == .cancelled ? .cancelled : .failed(error.localizedDescription)
    }

    private func see(_ progress: ProgressEvent) {
        switch progress {
        case .queued(let position): stage = .queued(position: Int(position))
        case .embedding: stage = .embedding
        case .embedded: stage = .denoising(done: 0, of: 0)
        case .resumed(let done, let steps): stage = .denoising(done: Int(done), of: Int(steps))
        case .step(let index, let steps, _, _, let leapt, let coasted, let seconds):
            let done = leapt ? Int(steps) : Int(index) + 1 + Int(coasted)
            stage = .denoising(done: done, of: Int(steps))
            secondsLeft = Double(Int(steps) - done) * seconds
        case .decoding:
            secondsLeft = nil
            stage = .decoding(frames: 0, of: frames)
        }
    }
}

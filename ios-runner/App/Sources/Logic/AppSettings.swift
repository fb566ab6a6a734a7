import Foundation
import Observation
import SoraKit

/// What the user asks for. Nothing is asked for that the model has a default for, until it is changed.
@Observable @MainActor
final class AppSettings {
    /// How a video is shortened.
    enum Leap: String, CaseIterable, Sendable { case off, dynamic, fixed }
    enum Merge: String, CaseIterable, Sendable { case off, first, all }

    var prompt = ""
    var seed: UInt64 = 42
    var steps: Int
    var guidance: Double
    var width: Int
    var height: Int
    var frames: Int
    var framesPerSecond: Double
    var leap = Leap.off
    var leapStep = 15
    var merge = Merge.off
    var mergedSteps = 15

    init(model: ModelDescription) {
        steps = Int(model.steps)
        guidance = model.guidanceScale
        width = Int(model.widthPx)
        height = Int(model.heightPx)
        frames = Int(model.frames)
        framesPerSecond = model.fps
    }

    /// Whether there is something to make.
    var isComplete: Bool { !prompt.trimmingCharacters(in: .whitespacesAndNewlines).isEmpty }

    /// The request; what cannot be done is found by the runner, which says what would be accepted.
    var request: VideoRequest {
        let leapSetting: LeapSetting =
            switch leap {
            case .off: .off
            case .dynamic: .dynamic
            case .fixed: .fixed(step: Self.small(leapStep))
            }
        let mergeSetting: MergeSetting =
            switch merge {
            case .off: .off
            case .all: .all
            case .first: .first(steps: Self.small(mergedSteps))
            }
        return VideoRequest(
            prompt: prompt, seed: seed, widthPx: Self.small(width), heightPx: Self.small(height),
            frames: Self.small(frames), fps: framesPerSecond, steps: Self.small(steps), guidanceScale: guidance,
            leap: leapSetting, merge: mergeSetting)
    }

    private static func small(_ number: Int) -> UInt32 { UInt32(clamping: number) }
}

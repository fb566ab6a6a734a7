import Foundation
import SoraKit
import Testing

@testable import Sora

/// Waits until something holds; where it never does, the test fails.
@MainActor func until(_ holds: @MainActor () -> Bool) async throws {
    let start = ContinuousClock.now
    while !holds() {
        try #require(start.duration(to: .now) < .seconds(20))
        await Task.yield()
    }
}

/// A folder of a test's own, which it removes.
struct Folder {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent("sora-\(UUID().uuidString)")

    init() throws { try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true) }
    func remove() { try? FileManager.default.removeItem(at: url) }

    func write(_ text: String, to path: String) throws {
        let file = url.appendingPathComponent(path)
        try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(text.utf8).write(to: file)
    }

    func read(_ path: String) -> String? {
        (try? Data(contentsOf: url.appendingPathComponent(path))).map { String(decoding: $0, as: UTF8.self) }
    }
}

struct WritingSink: VideoSink {
    let file: URL

    func append(_ frames: [SoraFrame]) throws {}
    func finish() throws { try Data().write(to: file) }
    func abandon() {}
}

struct WritingSinks: SinkMaker {
    func sink(for file: URL, framesPerSecond: Double) -> any VideoSink { WritingSink(file: file) }
}

struct NoIntervals: StageIntervals {
    func entered(_ stage: StaticString?) {}
}

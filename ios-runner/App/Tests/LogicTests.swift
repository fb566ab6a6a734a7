import Foundation
import SoraKit
import Testing

@testable import Sora

/// A folder of a test's own, which it removes.
private struct Folder {
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

/// Files of a server, which may know ranges or not.
private struct FakeServer: RangeFetcher {
    let files: [String: String]
    let knowsRanges: Bool

    func fetch(
        _ url: URL, from offset: UInt64, begin: @Sendable (UInt64) async throws -> Void,
        take: @Sendable (Data) async throws -> Void
    ) async throws {
        guard let text = files[url.lastPathComponent] else { throw CocoaError(.fileNoSuchFile) }
        let begins = knowsRanges ? offset : 0
        try await begin(begins)
        for byte in Data(text.utf8).dropFirst(Int(begins)) { try await take(Data([byte])) }
    }
}

/// A checksum that can be read: the file itself, as hexadecimal digits.
private struct FakeChecksum: Checksum {
    private var text = ""

    mutating func update(_ data: Data) { text += data.map { String(format: "%02x", $0) }.joined() }
    mutating func finish() -> String { Self.padded(text) }

    static func of(_ text: String) -> String { padded(text.utf8.map { String(format: "%02x", $0) }.joined()) }

    private static func padded(_ digits: String) -> String {
        digits + String(repeating: "0", count: max(0, 64 - digits.count))
    }
}

private struct PlainFolders: FolderAccess {
    func read(_ folder: URL, _ work: (URL) throws -> Void) throws { try work(folder) }
    func keepOutOfBackups(_ folder: URL) throws {}
}

@Suite struct ManifestTests {
    @Test func namesOfFilesStayWithinTheModel() throws {
        let sum = String(repeating: "a", count: 64)
        #expect(try ModelManifest(text: "\(sum)  t5/model.safetensors\n").files[0].path == "t5/model.safetensors")
        for bad in ["\(sum)  ../x", "\(sum)  /x", "\(sum)  a//b", "\(sum)  a/./b"] {
            #expect(throws: ModelManifest.Problem.self) { try ModelManifest(text: bad) }
        }
        for bad in ["", "abc  x", sum] {
            #expect(throws: ModelManifest.Problem.self) { try ModelManifest(text: bad) }
        }
    }
}

@Suite @MainActor struct ModelImportTests {
    private func importer(_ folder: Folder, knowsRanges: Bool = true, weights: String = "weights") -> ModelImport {
        let sums = "\(FakeChecksum.of("weights"))  a/w.bin\n"
        return ModelImport(
            folder: folder.url, fetcher: FakeServer(files: ["SHA256SUMS": sums, "w.bin": weights], knowsRanges: knowsRanges),
            access: PlainFolders(), newChecksum: { FakeChecksum() })
    }

    private func download(_ models: ModelImport) async {
        await models.download(from: URL(fileURLWithPath: "/server"), name: "m")
    }

    @Test func aDownloadThatWasInterruptedGoesOnWhateverTheServerKnows() async throws {
        for knowsRanges in [true, false] {
            let folder = try Folder()
            defer { folder.remove() }
            try folder.write("weig", to: "m.partial/a/w.bin.partial")
            let models = importer(folder, knowsRanges: knowsRanges)
            #expect(models.installed == [])
            await download(models)
            #expect(models.state == .done)
            #expect(folder.read("m/a/w.bin") == "weights")
            #expect(models.installed == ["m"])
        }
    }

    @Test func aFileThatIsDamagedIsFetchedAnew() async throws {
        let folder = try Folder()
        defer { folder.remove() }
        try folder.write("damaged", to: "m/a/w.bin")
        await download(importer(folder))
        #expect(folder.read("m/a/w.bin") == "weights")
    }

    @Test func whatComesDamagedIsNoModel() async throws {
        let folder = try Folder()
        defer { folder.remove() }
        let models = importer(folder, weights: "wrong")
        await download(models)
        guard case .failed = models.state else { Issue.record("\(models.state)"); return }
        #expect(models.installed == [] && folder.read("m.partial/a/w.bin.partial") == nil)
    }
}

@Suite @MainActor struct ModelRemovalTests {
    @Test func modelsAndPartsOfThemCanBeDeleted() async throws {
        let folder = try Folder()
        defer { folder.remove() }
        try folder.write("weights", to: "whole/w.bin")
        try folder.write("wei", to: "begun.partial/w.bin.partial")
        let models = ModelImport(
            folder: folder.url, fetcher: FakeServer(files: [:], knowsRanges: true), access: PlainFolders(),
            newChecksum: { FakeChecksum() })
        #expect(models.installed == ["whole"] && models.partial == ["begun.partial"])
        for name in models.installed + models.partial { await models.remove(name) }
        #expect(models.state == .idle && models.installed == [] && models.partial == [])
        await models.remove("whole")
        guard case .failed = models.state else { Issue.record("\(models.state)"); return }
    }
}

@Suite @MainActor struct GalleryTests {
    @Test func damageCostsNoOtherVideo() throws {
        let folder = try Folder()
        defer { folder.remove() }
        let ids = [UUID(), UUID()]
        for id in ids { try folder.write("video", to: "\(id.uuidString).mp4") }
        try folder.write("{", to: "\(ids[0].uuidString).json")
        try folder.write("half", to: "\(UUID().uuidString).unfinished.mp4")
        try folder.write("of no video", to: "\(UUID().uuidString).json")
        try folder.write("somebody's own", to: "notes.json")
        let gallery = try Gallery(folder: folder.url)
        #expect(Set(gallery.entries.map(\.id)) == Set(ids))
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.url.path).count == 4)
        try gallery.delete(gallery.entries[0])
        #expect(gallery.entries.count == 1)
    }

    @Test func anEntryIsThereWhenItsVideoIs() throws {
        let folder = try Folder()
        defer { folder.remove() }
        let gallery = try Gallery(folder: folder.url)
        let entry = gallery.newEntry(prompt: "a cat", seed: 7)
        try gallery.sink(for: entry, over: WritingSink(file: gallery.file(of: entry))).finish()
        gallery.refresh()
        #expect(gallery.entries.map(\.prompt) == ["a cat"])
    }

    @Test func nothingIsLeftOfAVideoThatCannotBeFinished() throws {
        let folder = try Folder()
        defer { folder.remove() }
        let gallery = try Gallery(folder: folder.url)
        let entry = gallery.newEntry(prompt: "a secret", seed: 7)
        let sink = gallery.sink(for: entry, over: WritingSink(file: folder.url.appendingPathComponent("none/file")))
        #expect(throws: (any Error).self) { try sink.finish() }
        sink.abandon()
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.url.path) == [])
    }
}

private struct WritingSink: VideoSink {
    let file: URL

    func append(_ frames: [SoraFrame]) throws {}
    func finish() throws { try Data().write(to: file) }
    func abandon() {}
}

private struct WritingSinks: SinkMaker {
    func sink(for file: URL, framesPerSecond: Double) -> any VideoSink { WritingSink(file: file) }
}

/// A job that is always the same video.
private final class SameJob: SoraJob, @unchecked Sendable {
    override func key() -> String { "1" }
}

/// A runner that goes on with every video, and fails it at once.
private final class FailingRunner: SoraRunner, @unchecked Sendable {
    override func unfinished() async throws -> [UnfinishedVideo] { [] }

    override func continueJob(key: String, listener: any JobListener) async throws -> SoraJob {
        try listener.failed(failure: JobFailure(kind: .compute, stage: "vae_decoder", message: "out of luck"))
        return SameJob(noHandle: .init())
    }
}

/// A runner whose only video goes on until it is told to fail.
private final class InterruptedRunner: SoraRunner, @unchecked Sendable {
    private let lock = NSLock()
    private var listeners: [any JobListener] = []

    static let video = UnfinishedVideo(
        key: "1", prompt: "a cat", seed: 7, widthPx: 64, heightPx: 64, frames: 17, fps: 8, stepsDone: 3, steps: 30,
        obstacle: nil)

    var tries: Int { lock.withLock { listeners.count } }

    override func unfinished() async throws -> [UnfinishedVideo] { [Self.video] }

    override func continueJob(key: String, listener: any JobListener) async throws -> SoraJob {
        lock.withLock { listeners.append(listener) }
        return SameJob(noHandle: .init())
    }

    func fail(_ kind: FailureKind) throws {
        let latest = lock.withLock { listeners.last }
        try latest?.failed(failure: JobFailure(kind: kind, stage: "vae_decoder", message: "the encoder is gone"))
    }
}

private struct NoIntervals: StageIntervals {
    func entered(_ stage: StaticString?) {}
}

@Suite @MainActor struct StudioTests {
    @Test func aVideoThatFailedAndGoesOnIsOneVideo() async throws {
        let folder = try Folder()
        defer { folder.remove() }
        let studio = Studio(
            runner: FailingRunner(noHandle: .init()), gallery: try Gallery(folder: folder.url), sinks: WritingSinks(),
            newIntervals: { NoIntervals() })
        let video = UnfinishedVideo(
            key: "1", prompt: "a cat", seed: 7, widthPx: 64, heightPx: 64, frames: 17, fps: 8, stepsDone: 3, steps: 30,
            obstacle: nil)
        await studio.goOn(with: video)
        while studio.videos.first?.isOver != true { await Task.yield() }
        await studio.goOn(with: video)
        #expect(studio.videos.map(\.id) == ["1"])
    }

    @Test func whatFailsBecauseTheAppWasAwayGoesOnWhenItIsBack() async throws {
        let folder = try Folder()
        defer { folder.remove() }
        let runner = InterruptedRunner(noHandle: .init())
        let studio = Studio(
            runner: runner, gallery: try Gallery(folder: folder.url), sinks: WritingSinks(),
            newIntervals: { NoIntervals() })
        let (phases, app) = AsyncStream.makeStream(of: AppPhase.self)
        let following = Task { await studio.follow(phases) }
        await studio.goOn(with: InterruptedRunner.video)

        app.yield(.background)
        while studio.absences == 0 { await Task.yield() }
        try runner.fail(.listener)
        while studio.videos.first?.isOver != true { await Task.yield() }
        #expect(runner.tries == 1)
        app.yield(.foreground)
        while runner.tries == 1 { await Task.yield() }
        while studio.videos.first?.isOver != false { await Task.yield() }

        // It was not away since, so this is a failure like any other.
        try runner.fail(.listener)
        while studio.videos.first?.isOver != true { await Task.yield() }
        try await Task.sleep(for: .milliseconds(50))
        #expect(runner.tries == 2)
        following.cancel()
        await following.value
    }
}

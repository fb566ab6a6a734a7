import Foundation
import SoraKit
import Testing

@testable import Sora

/// Files of a server, which may know ranges or not.
private struct FakeServer: RangeFetcher {
    let files: [String: String]
    let knowsRanges: Bool
    /// What of a model's file comes before nothing more does.
    var bytesUntilSilence = Int.max

    func fetch(
        _ url: URL, from offset: UInt64, begin: @Sendable (UInt64) async throws -> Void,
        take: @Sendable (Data) async throws -> Void
    ) async throws {
        guard let text = files[url.lastPathComponent] else { throw CocoaError(.fileNoSuchFile) }
        let begins = knowsRanges ? offset : 0
        try await begin(begins)
        let silence = url.lastPathComponent == ModelManifest.name ? Int.max : bytesUntilSilence
        for (index, byte) in Data(text.utf8).enumerated().dropFirst(Int(begins)) {
            if index == silence { try await Task.sleep(for: .seconds(60)) }
            try await take(Data([byte]))
        }
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
    func read(_ folder: URL, _ work: @Sendable (URL) throws -> Void) async throws { try work(folder) }
    func keepOutOfBackups(_ folder: URL) throws {}
}

/// Has brought a folder when nobody wants it any more, or a part of it.
private struct LateFolders: FolderAccess {
    let hasMore: Bool

    func read(_ folder: URL, _ work: @Sendable (URL) throws -> Void) async throws {
        try work(folder)
        while !Task.isCancelled { await Task.yield() }
        if hasMore { try work(folder) }
    }
    func keepOutOfBackups(_ folder: URL) throws {}
}

/// A phone to which nothing happens.
private struct CalmPhone: Surroundings, MemoryProbe, BackgroundTime {
    let availableBytes: UInt64? = nil
    let footprintBytes: UInt64 = 0

    func memoryPressure() -> AsyncStream<MemoryPressure> { AsyncStream { $0.finish() } }
    func thermalLevels() -> AsyncStream<ThermalLevel> { AsyncStream { $0.finish() } }
    func appPhases() -> AsyncStream<AppPhase> { AsyncStream { $0.finish() } }
    func begin() async -> @Sendable () async -> Void { {} }
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

@Suite @MainActor struct ModelCancellingTests {
    private func importer(_ folder: URL, _ server: FakeServer, _ access: any FolderAccess) -> ModelImport {
        ModelImport(folder: folder, fetcher: server, access: access, newChecksum: { FakeChecksum() })
    }

    @Test func aDownloadThatIsCancelledCanBeGoneOnWith() async throws {
        let folder = try Folder()
        defer { folder.remove() }
        let files = ["SHA256SUMS": "\(FakeChecksum.of("weights"))  w.bin\n", "w.bin": "weights"]
        let server = FakeServer(files: files, knowsRanges: true, bytesUntilSilence: 3)
        let models = importer(folder.url, server, PlainFolders())
        let download = Task { await models.download(from: URL(fileURLWithPath: "/server"), name: "m") }
        try await until { models.state == .working(file: "w.bin", bytes: 3) }
        #expect(models.target == "m")
        models.cancel()
        await download.value
        #expect(models.state == .idle && models.target == nil && models.partial == ["m.partial"])
        #expect(folder.read("m.partial/w.bin.partial") == "wei")
    }

    @Test(arguments: [true, false]) func nothingIsLeftOfACopyThatIsCancelled(hasMore: Bool) async throws {
        let (folder, source) = (try Folder(), try Folder())
        defer { for used in [folder, source] { used.remove() } }
        try source.write("weights", to: "w.bin")
        let models = importer(folder.url, FakeServer(files: [:], knowsRanges: true), LateFolders(hasMore: hasMore))
        let copy = Task { await models.copy(from: source.url) }
        let partial = "\(source.url.lastPathComponent).partial/w.bin"
        try await until { folder.read(partial) == "weights" }
        models.cancel()
        await copy.value
        #expect(models.state == .idle && models.installed == [] && models.partial == [])
    }

    @Test func aFolderIsCopiedWithAllThatIsInIt() async throws {
        let (folder, source) = (try Folder(), try Folder())
        defer { for used in [folder, source] { used.remove() } }
        try source.write("weights", to: "t5/w.bin")
        let models = importer(folder.url, FakeServer(files: [:], knowsRanges: true), PlainFolders())
        await models.copy(from: source.url)
        #expect(models.state == .done && models.installed == [source.url.lastPathComponent] && models.partial == [])
        #expect(folder.read("\(source.url.lastPathComponent)/t5/w.bin") == "weights")
    }
}

@Suite @MainActor struct SessionTests {
    @Test func theModelThatIsOpenIsNotWrittenOver() async throws {
        let folder = try Folder()
        defer { folder.remove() }
        let suite = "sora-\(UUID().uuidString)"
        let settings = try #require(UserDefaults(suiteName: suite))
        defer { settings.removePersistentDomain(forName: suite) }
        settings.set("m", forKey: Session.Setting.model)
        let models = ModelImport(
            folder: folder.url, fetcher: FakeServer(files: [:], knowsRanges: true), access: PlainFolders(),
            newChecksum: { FakeChecksum() })
        let calm = CalmPhone()
        let session = Session(
            phone: Phone(
                probe: calm, surroundings: calm, background: calm, sinks: WritingSinks(), newIntervals: { NoIntervals() },
                golden: nil),
            places: Places(models: folder.url, work: folder.url, videos: folder.url, telemetry: folder.url),
            models: models, settings: settings)
        #expect(!session.canUse(model: "m") && session.canUse(model: "other") && session.canUse(model: nil))
        await session.download(from: URL(fileURLWithPath: "/server"), name: "m")
        #expect(models.state == .failed(ModelImport.Problem.isOpen.localizedDescription))
        await session.copy(from: URL(fileURLWithPath: "/elsewhere/m"))
        #expect(models.state == .failed(ModelImport.Problem.isOpen.localizedDescription))
        // Another one is tried: the server does not have it.
        await session.download(from: URL(fileURLWithPath: "/server"), name: "other")
        #expect(models.state != .failed(ModelImport.Problem.isOpen.localizedDescription))
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

import Foundation

/// Fetches a file from `offset` on; the network is Apple's.
protocol RangeFetcher: Sendable {
    /// Says where the answer begins, which is at 0 where a server knows no ranges, and hands over part after part, each when the one
    /// before has been taken.
    func fetch(
        _ url: URL, from offset: UInt64, begin: @Sendable (UInt64) async throws -> Void,
        take: @Sendable (Data) async throws -> Void
    ) async throws
}

/// A running SHA-256; CryptoKit is Apple's.
protocol Checksum {
    mutating func update(_ data: Data)
    mutating func finish() -> String
}

/// What of the file system is Apple's.
protocol FolderAccess: Sendable {
    /// Reads a folder that the user chose, which its provider may have to bring here first.
    func read(_ folder: URL, _ work: @Sendable (URL) throws -> Void) async throws
    /// A model can be had again, and is no part of the user's backups.
    func keepOutOfBackups(_ folder: URL) throws
}

/// Copies and downloads models, away from the main actor.
actor ModelFiles {
    /// Files and bytes on their way.
    typealias Tell = @Sendable (_ file: String, _ bytes: UInt64) async -> Void

    private let folder: URL
    private let fetcher: any RangeFetcher
    private let access: any FolderAccess
    private let newChecksum: @Sendable () -> any Checksum

    init(
        folder: URL, fetcher: any RangeFetcher, access: any FolderAccess,
        newChecksum: @escaping @Sendable () -> any Checksum
    ) {
        self.folder = folder
        self.fetcher = fetcher
        self.access = access
        self.newChecksum = newChecksum
    }

    /// Models that are whole, by name. What is on its way has another name.
    static func installed(in folder: URL) -> [String] {
        names(in: folder).filter { !$0.hasSuffix(".\(partialExtension)") }
    }

    /// What is there of models that are not whole, by the names of their folders.
    static func partial(in folder: URL) -> [String] {
        names(in: folder).filter { $0.hasSuffix(".\(partialExtension)") }
    }

    private static func names(in folder: URL) -> [String] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return names.filter { !$0.hasPrefix(".") }.sorted()
    }

    private static let partialExtension = "partial"

    /// Deletes a model, or a part of one.
    func remove(_ name: String) throws {
        try FileManager.default.removeItem(at: folder.appendingPathComponent(name))
    }

    /// Copies a folder that the user chose; nothing is left of a copy that does not come to its end.
    func copy(from source: URL) async throws {
        try prepare()
        let target = folder.appendingPathComponent(source.lastPathComponent)
        let partial = target.appendingPathExtension(Self.partialExtension)
        try? FileManager.default.removeItem(at: partial)
        defer { try? FileManager.default.removeItem(at: partial) }
        try await access.read(source) { try Self.copy($0, to: partial) }
        // It may have been during the last file.
        try Task.checkCancellation()
        try? FileManager.default.removeItem(at: target)
        try FileManager.default.moveItem(at: partial, to: target)
    }

    /// Copies file by file, for as long as its task is not cancelled.
    private static func copy(_ source: URL, to target: URL) throws {
        try Task.checkCancellation()
        let files = FileManager.default
        guard try source.resourceValues(forKeys: [.isDirectoryKey]).isDirectory == true else {
            return try files.copyItem(at: source, to: target)
        }
        try files.createDirectory(at: target, withIntermediateDirectories: true)
        for name in try files.contentsOfDirectory(atPath: source.path) {
            try copy(source.appendingPathComponent(name), to: target.appendingPathComponent(name))
        }
    }

    /// Downloads what `SHA256SUMS` at `base` lists into the model `name`. What is there and whole is left alone; what is there
    /// in part is gone on with.
    func download(from base: URL, name: String, tell: @escaping Tell) async throws {
        try prepare()
        let target = folder.appendingPathComponent(name)
        let isThere = FileManager.default.fileExists(atPath: target.path)
        let model = isThere ? target : target.appendingPathExtension(Self.partialExtension)
        for file in try await manifest(at: base).files {
            try await fetch(file, from: base, into: model, tell)
        }
        if !isThere { try FileManager.default.moveItem(at: model, to: target) }
    }

    private func prepare() throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try access.keepOutOfBackups(folder)
    }

    private func manifest(at base: URL) async throws -> ModelManifest {
        let text = Collected()
        try await fetcher.fetch(
            base.appendingPathComponent(ModelManifest.name), from: 0, begin: { _ in }, take: { await text.add($0) })
        return try ModelManifest(text: String(decoding: await text.data, as: UTF8.self))
    }

    private func fetch(_ file: ModelManifest.File, from base: URL, into model: URL, _ tell: @escaping Tell) async throws {
        let target = model.appendingPathComponent(file.path)
        if FileManager.default.fileExists(atPath: target.path) {
            let whole = PartialFile(target, as: file, newChecksum(), tell)
            try await whole.open()
            if try await whole.isWhole() { return }
            try FileManager.default.removeItem(at: target)
        }
        try FileManager.default.createDirectory(
            at: target.deletingLastPathComponent(), withIntermediateDirectories: true)
        let url = target.appendingPathExtension(Self.partialExtension)
        let partial = PartialFile(url, as: file, newChecksum(), tell)
        let bytes = try await partial.open()
        let newChecksum = newChecksum
        try await fetcher.fetch(
            base.appendingPathComponent(file.path), from: bytes,
            begin: { offset in if offset != bytes { try await partial.beginAnew(newChecksum()) } },
            take: { try await partial.take($0) })
        guard try await partial.isWhole() else {
            try FileManager.default.removeItem(at: url)
            throw ModelImport.Problem.checksum(file.path)
        }
        try FileManager.default.moveItem(at: url, to: target)
    }
}

/// A small file in memory.
private actor Collected {
    private(set) var data = Data()

    func add(_ part: Data) { data.append(part) }
}

/// A file that grows, with its checksum.
private actor PartialFile {
    private static let pieceBytes = 1 << 20

    private let url: URL
    private let file: ModelManifest.File
    private let tell: ModelFiles.Tell
    private var checksum: any Checksum
    private var handle: FileHandle?
    private var bytes: UInt64 = 0

    init(_ url: URL, as file: ModelManifest.File, _ checksum: sending any Checksum, _ tell: @escaping ModelFiles.Tell) {
        self.url = url
        self.file = file
        self.checksum = checksum
        self.tell = tell
    }

    /// Opens the file, makes it if it is not there, and reads what there is of it, so that the checksum is of the file as it is on
    /// the disk. Says how many bytes that is.
    @discardableResult
    func open() async throws -> UInt64 {
        if !FileManager.default.fileExists(atPath: url.path) { try Data().write(to: url) }
        let handle = try FileHandle(forUpdating: url)
        self.handle = handle
        while let data = try handle.read(upToCount: Self.pieceBytes), !data.isEmpty {
            try Task.checkCancellation()
            checksum.update(data)
            bytes += UInt64(data.count)
            await tell(file.path, bytes)
        }
        return bytes
    }

    func beginAnew(_ checksum: sending any Checksum) throws {
        try handle?.truncate(atOffset: 0)
        try handle?.seek(toOffset: 0)
        self.checksum = checksum
        bytes = 0
    }

    func take(_ part: Data) async throws {
        try handle?.write(contentsOf: part)
        checksum.update(part)
        bytes += UInt64(part.count)
        await tell(file.path, bytes)
    }

    /// Closes the file, and says whether it is what it shall be.
    func isWhole() throws -> Bool {
        try handle?.close()
        handle = nil
        return checksum.finish() == file.sha256
    }
}

import Foundation
import Observation

/// The files of a model as `SHA256SUMS` lists them: one line each, checksum, two spaces, path.
struct ModelManifest: Equatable, Sendable {
    struct File: Equatable, Sendable {
        let path: String
        let sha256: String
    }

    enum Problem: Error, Equatable {
        case noLine(String)
        case badPath(String)
        case empty
    }

    let files: [File]

    init(text: String) throws {
        files = try text.split(whereSeparator: \.isNewline).map { line in
            let parts = line.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: true)
            guard parts.count == 2, parts[0].count == 64, parts[0].allSatisfy(\.isHexDigit) else {
                throw Problem.noLine(String(line))
            }
            let path = parts[1].trimmingCharacters(in: CharacterSet(charactersIn: " *"))
            // Names come from elsewhere, and must stay within the model's folder.
            let steps = path.split(separator: "/", omittingEmptySubsequences: false)
            guard !path.hasPrefix("/"), !steps.contains(where: { $0 == ".." || $0 == "." || $0.isEmpty }) else {
                throw Problem.badPath(path)
            }
            return File(path: path, sha256: parts[0].lowercased())
        }
        if files.isEmpty { throw Problem.empty }
    }
}

/// Fetches bytes of a file from `offset` on; the network is Apple's.
protocol RangeFetcher: Sendable {
    func bytes(of url: URL, from offset: UInt64) async throws -> AsyncThrowingStream<Data, any Error>
}

/// A running SHA-256; CryptoKit is Apple's.
protocol Checksum {
    mutating func update(_ data: Data)
    mutating func finish() -> String
}

/// Brings a model into the app: copies a folder, or downloads one that goes on where it was interrupted.
@Observable @MainActor
final class ModelImport {
    enum State: Equatable, Sendable {
        case idle
        case working(file: String, bytes: UInt64)
        case done
        case failed(String)
    }

    enum Problem: Error, LocalizedError, Equatable {
        case checksum(String)

        var errorDescription: String? {
            switch self {
            case .checksum(let path): String(format: localized("%@ came damaged. Download it again."), path)
            }
        }
    }

    private(set) var state = State.idle
    /// Where models are.
    let folder: URL

    private let fetcher: any RangeFetcher
    private let newChecksum: @Sendable () -> any Checksum

    init(folder: URL, fetcher: any RangeFetcher, newChecksum: @escaping @Sendable () -> any Checksum) {
        self.folder = folder
        self.fetcher = fetcher
        self.newChecksum = newChecksum
    }

    /// Copies a folder that the user chose.
    func copy(from source: URL) {
        do {
            let target = folder.appendingPathComponent(source.lastPathComponent)
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            // A copy that was interrupted must not be taken for a model.
            let partial = target.appendingPathExtension("partial")
            try? FileManager.default.removeItem(at: partial)
            try FileManager.default.copyItem(at: source, to: partial)
            try? FileManager.default.removeItem(at: target)
            try FileManager.default.moveItem(at: partial, to: target)
            state = .done
        } catch {
            state = .failed(error.localizedDescription)
        }
    }

    /// Downloads what `SHA256SUMS` at `base` lists into the model `name`. What is there and whole is left alone; what is there
    /// in part is gone on with.
    func download(from base: URL, name: String) async {
        do {
            var sums = Data()
            for try await part in try await fetcher.bytes(of: base.appendingPathComponent("SHA256SUMS"), from: 0) {
                sums.append(part)
            }
            let manifest = try ModelManifest(text: String(decoding: sums, as: UTF8.self))
            for file in manifest.files {
                try await fetch(file, from: base, into: folder.appendingPathComponent(name))
            }
            state = .done
        } catch {
            state = .failed(error.localizedDescription)
        }
    }

    private func fetch(_ file: ModelManifest.File, from base: URL, into model: URL) async throws {
        let target = model.appendingPathComponent(file.path)
        guard !FileManager.default.fileExists(atPath: target.path) else { return }
        let partial = target.appendingPathExtension("partial")
        try FileManager.default.createDirectory(
            at: target.deletingLastPathComponent(), withIntermediateDirectories: true)
        if !FileManager.default.fileExists(atPath: partial.path) {
            try Data().write(to: partial)
        }
        var checksum = newChecksum()
        let handle = try FileHandle(forUpdating: partial)
        defer { try? handle.close() }
        // What came before is read again, so that the checksum is of the file as it is on the disk.
        while let data = try handle.read(upToCount: 1 << 20), !data.isEmpty { checksum.update(data) }
        var bytes = try handle.offset()
        state = .working(file: file.path, bytes: bytes)
        for try await part in try await fetcher.bytes(of: base.appendingPathComponent(file.path), from: bytes) {
            try handle.write(contentsOf: part)
            checksum.update(part)
            bytes += UInt64(part.count)
            state = .working(file: file.path, bytes: bytes)
        }
        guard checksum.finish() == file.sha256 else {
            try FileManager.default.removeItem(at: partial)
            throw Problem.checksum(file.path)
        }
        try FileManager.default.moveItem(at: partial, to: target)
    }
}

import Foundation
import Observation

/// Brings a model into the app: copies a folder, or downloads one that goes on where it was interrupted. The work is done
/// elsewhere; what is known of it is here.
@Observable @MainActor
final class ModelImport {
    enum State: Equatable, Sendable {
        case idle
        case copying
        case removing
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
    /// Names of the models that are there.
    private(set) var installed: [String] = []
    /// Folders of those that are not whole.
    private(set) var partial: [String] = []

    private let folder: URL
    private let files: ModelFiles

    init(
        folder: URL, fetcher: any RangeFetcher, access: any FolderAccess,
        newChecksum: @escaping @Sendable () -> any Checksum
    ) {
        self.folder = folder
        files = ModelFiles(folder: folder, fetcher: fetcher, access: access, newChecksum: newChecksum)
        look()
    }

    var isWorking: Bool {
        switch state {
        case .copying, .working, .removing: true
        case .idle, .done, .failed: false
        }
    }

    func copy(from source: URL) async {
        await whileWorking(.copying) { try await $0.copy(from: source) }
    }

    func download(from base: URL, name: String) async {
        await whileWorking(.working(file: ModelManifest.name, bytes: 0)) { files in
            try await files.download(from: base, name: name) { [weak self] file, bytes in
                await self?.tell(.working(file: file, bytes: bytes))
            }
        }
    }

    /// Deletes a model, or a part of one, by the name of its folder.
    func remove(_ name: String) async {
        await whileWorking(.removing) { try await $0.remove(name) }
        if state == .done { state = .idle }
    }

    private func look() {
        installed = ModelFiles.installed(in: folder)
        partial = ModelFiles.partial(in: folder)
    }

    private func tell(_ state: State) { self.state = state }

    private func whileWorking(_ begun: State, _ work: (ModelFiles) async throws -> Void) async {
        guard !isWorking else { return }
        state = begun
        do {
            try await work(files)
            state = .done
        } catch {
            state = .failed(error.localizedDescription)
        }
        look()
    }
}

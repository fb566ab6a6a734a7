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
        case isOpen

        var errorDescription: String? {
            switch self {
            case .isOpen: localized("This model is open. Open another one before you bring it anew.")
            case .checksum(let path): String(format: localized("%@ came damaged. Download it again."), path)
            }
        }
    }

    private(set) var state = State.idle
    /// Names of the models that are there.
    private(set) var installed: [String] = []
    /// Folders of those that are not whole.
    private(set) var partial: [String] = []

    /// The model that is being written or deleted.
    private(set) var target: String?

    private let folder: URL
    private let files: ModelFiles
    private var work: Task<Void, any Error>?

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
        await whileWorking(.copying, on: source.lastPathComponent) { try await $0.copy(from: source) }
    }

    func download(from base: URL, name: String) async {
        await whileWorking(.working(file: ModelManifest.name, bytes: 0), on: name) { files in
            try await files.download(from: base, name: name) { [weak self] file, bytes in
                await self?.tell(.working(file: file, bytes: bytes))
            }
        }
    }

    /// Deletes a model, or a part of one, by the name of its folder.
    func remove(_ name: String) async {
        await whileWorking(.removing, on: name) { try await $0.remove(name) }
        if state == .done { state = .idle }
    }

    /// Ends what is on its way. What was downloaded stays, to be gone on with.
    func cancel() { work?.cancel() }

    /// Says why something is not begun.
    func refuse(_ problem: Problem) {
        if !isWorking { state = .failed(problem.localizedDescription) }
    }

    private func look() {
        installed = ModelFiles.installed(in: folder)
        partial = ModelFiles.partial(in: folder)
    }

    private func tell(_ state: State) { self.state = state }

    private func whileWorking(
        _ begun: State, on name: String, _ work: @escaping (ModelFiles) async throws -> Void
    ) async {
        guard !isWorking else { return }
        (state, target) = (begun, name)
        let task = Task { try await work(files) }
        self.work = task
        switch await task.result {
        case .success: state = .done
        // Whatever it failed with then.
        case .failure where task.isCancelled: state = .idle
        case .failure(let error): state = .failed(error.localizedDescription)
        }
        (self.work, target) = (nil, nil)
        look()
    }
}

import Foundation
import Observation
import SoraKit

/// What of the app is Apple's, behind protocols.
struct Phone: Sendable {
    let probe: any MemoryProbe
    let surroundings: any Surroundings
    let background: any BackgroundTime
    let sinks: any SinkMaker
    let newIntervals: @Sendable () -> any StageIntervals
    /// The golden cases that the app carries.
    let golden: URL?
}

/// Where the app keeps things.
struct Places: Sendable {
    let models: URL
    /// Unfinished work is no cache: the system would delete it.
    let work: URL
    let videos: URL
    let telemetry: URL
}

/// Everything that lives as long as the app: the runner, and what is built on it.
@Observable @MainActor
final class Session {
    enum State {
        case opening
        case open(Desk)
        case failed(String)
    }

    /// The parts of the app that need a runner.
    struct Desk {
        let settings: AppSettings
        let studio: Studio
        let gallery: Gallery
        let gauges: Gauges
        let telemetry: TelemetryDesk
        let selfCheck: SelfCheck
        let model: ModelDescription
    }

    /// Names of settings that outlive the app.
    enum Setting {
        static let model = "model"
        static let scrapeAddress = "scrape_address"
    }

    private(set) var state = State.opening
    /// The folder of the model that is open; none for the embedded one.
    private(set) var modelFolder: String?
    let models: ModelImport

    private let phone: Phone
    private let places: Places
    private let settings: UserDefaults
    private let budget = MemoryBudget()
    /// As it was when the app started: a process has one address, whatever is typed meanwhile.
    private let scrapeAddress: String?
    private var runner: SoraRunner?
    private var gallery: Gallery?
    private var studio: Studio?
    private var watches: [Task<Void, Never>] = []
    private var latestOpening: Task<Void, Never>?

    init(phone: Phone, places: Places, models: ModelImport, settings: UserDefaults = .standard) {
        self.phone = phone
        self.places = places
        self.models = models
        self.settings = settings
        modelFolder = settings.string(forKey: Setting.model)
        let address = settings.string(forKey: Setting.scrapeAddress)?.trimmingCharacters(in: .whitespaces)
        scrapeAddress = address == "" ? nil : address
    }

    func open() async {
        if latestOpening == nil { await reopen() }
    }

    func use(model name: String?) async {
        modelFolder = name
        settings.set(name, forKey: Setting.model)
        await reopen()
    }

    /// Whether something is on its way that the phone must not fall asleep over.
    var isBusy: Bool {
        switch state {
        case .opening: true
        case .open(let desk):
            models.isWorking || desk.selfCheck.isRunning || desk.studio.videos.contains { !$0.isOver }
        case .failed: models.isWorking
        }
    }

    /// Whether this model, or the embedded one, is not open and can be opened: nobody writes it now.
    func canUse(model name: String?) -> Bool {
        name != modelFolder && (name == nil || name != models.target)
    }

    /// Opens the model that was chosen, again.
    func tryAgain() async { await reopen() }

    /// Deletes a model that is not open, or the part of one that was downloaded.
    func remove(model name: String) async {
        if name != modelFolder { await models.remove(name) }
    }

    /// Copies a model into the app; not over the one that is open, whose files are in use, and would stay on the disk unseen.
    func copy(from source: URL) async {
        guard source.lastPathComponent != modelFolder else { return models.refuse(.isOpen) }
        await models.copy(from: source)
    }

    /// Downloads a model, or goes on with it; not over the one that is open.
    func download(from base: URL, name: String) async {
        guard name != modelFolder else { return models.refuse(.isOpen) }
        await models.download(from: base, name: name)
    }

    /// One after the other: two runners must not share a folder.
    private func reopen() async {
        let before = latestOpening
        let opening = Task {
            await before?.value
            await closeRunner()
            await openRunner()
        }
        latestOpening = opening
        await opening.value
    }

    private func closeRunner() async {
        state = .opening
        watches.forEach { $0.cancel() }
        for watch in watches { await watch.value }
        await runner?.close()
        (watches, runner, studio) = ([], nil, nil)
    }

    private func openRunner() async {
        do {
            let (runner, trouble) = try await newRunner()
            self.runner = runner
            let watching = RunnerWatch(
                runner: runner, surroundings: phone.surroundings, probe: phone.probe, background: phone.background,
                budget: budget, afterReturn: { [weak self] in await self?.appReturned() })
            watches.append(Task { await watching.run() })
            let gallery = try gallery ?? Gallery(folder: places.videos)
            self.gallery = gallery
            let model = runner.model()
            if model.device == "metal" {
                // Kernels are compiled when they are used first, which the first video need not wait for. What fails here is
                // told by the self-check.
                _ = try? await runner.benchmarkBlocks(fullSize: false, iterations: 1)
            }
            let studio = Studio(
                runner: runner, gallery: gallery, sinks: phone.sinks, newIntervals: phone.newIntervals)
            self.studio = studio
            let phases = phone.surroundings.appPhases()
            watches.append(Task { await studio.follow(phases) })
            await studio.refresh()
            state = .open(
                Desk(
                    settings: AppSettings(model: model), studio: studio, gallery: gallery,
                    gauges: Gauges(runner: runner, probe: phone.probe, surroundings: phone.surroundings),
                    telemetry: TelemetryDesk(runner: runner, file: places.telemetry, trouble: trouble),
                    selfCheck: SelfCheck(runner: runner, golden: phone.golden), model: model))
        } catch {
            state = .failed(error.localizedDescription)
        }
    }

    /// The studio goes on in a task of its own, since the watch waits for this before it hears the next phase.
    private func appReturned() {
        guard let studio else { return }
        Task { await studio.appReturned() }
    }

    /// A runner, with as much of telemetry as can be had, and why it is not all. Nobody is kept from videos by an address.
    private func newRunner() async throws -> (SoraRunner, trouble: String?) {
        let file = places.telemetry.path
        let wishes = [TelemetryConfig(file: file, scrapeAddress: scrapeAddress), TelemetryConfig(file: file), nil]
        var trouble: String?
        for telemetry in wishes {
            do {
                return (try await SoraRunner.open(config: config(telemetry)), trouble)
            } catch RunnerError.Telemetry(let text) {
                trouble = trouble ?? text
            }
        }
        throw RunnerError.Telemetry(message: trouble ?? "")
    }

    private func config(_ telemetry: TelemetryConfig?) -> RunnerConfig {
        RunnerConfig(
            modelFolder: modelFolder.map { places.models.appendingPathComponent($0).path },
            device: .auto,
            // T5-XXL overflows the 16 bits of IEEE.
            precision: .bf16,
            memoryBudgetBytes: budget.bytes(probe: phone.probe),
            cacheFolder: places.work.path,
            telemetry: telemetry)
    }
}

import SoraKit
import SwiftUI

@main
struct SoraApp: App {
    @State private var session = Session()

    init() {
        // Read at the first matrix product. What is computed on the CPU gets the performance cores; candle counts them on a
        // Mac only.
        setenv("RAYON_NUM_THREADS", "2", 0)
    }

    var body: some Scene {
        WindowGroup {
            RootView(session: session)
                .task { await session.open() }
        }
    }
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

    private(set) var state = State.opening
    let models = ModelImport(
        folder: Places.models, fetcher: HttpRangeFetcher(), newChecksum: { Sha256Checksum() })
    /// The folder of the model that is open; none for the embedded one.
    private(set) var modelFolder = UserDefaults.standard.string(forKey: "model")
    private var watch: Task<Void, Never>?

    func open() async {
        guard case .opening = state else { return }
        await reopen()
    }

    func use(model name: String?) async {
        modelFolder = name
        UserDefaults.standard.set(name, forKey: "model")
        await reopen()
    }

    private func reopen() async {
        watch?.cancel()
        state = .opening
        do {
            let (probe, surroundings, budget) = (PhoneMemory(), PhoneSurroundings(), MemoryBudget())
            let config = RunnerConfig(
                modelFolder: modelFolder.map { Places.models.appendingPathComponent($0).path },
                device: .auto,
                // T5-XXL overflows the 16 bits of IEEE.
                precision: .bf16,
                memoryBudgetBytes: budget.bytes(probe: probe),
                cacheFolder: Places.work.path,
                telemetry: TelemetryConfig(
                    file: Places.telemetry.path,
                    scrapeAddress: UserDefaults.standard.string(forKey: "scrape_address")))
            let runner = try await SoraRunner.open(config: config)
            let gallery = try Gallery(folder: Places.videos)
            let studio = Studio(
                runner: runner, gallery: gallery, sinks: Mp4Sinks(), intervals: StageSignposts())
            let model = runner.model()
            await studio.refresh()
            state = .open(
                Desk(
                    settings: AppSettings(model: model), studio: studio, gallery: gallery,
                    gauges: Gauges(runner: runner, probe: probe, surroundings: surroundings),
                    telemetry: TelemetryDesk(runner: runner, file: Places.telemetry),
                    selfCheck: SelfCheck(
                        runner: runner, golden: Bundle.main.url(forResource: "golden", withExtension: nil)),
                    model: model))
            let watching = RunnerWatch(
                runner: runner, surroundings: surroundings, probe: probe, background: PhoneBackgroundTime(),
                budget: budget)
            watch = Task { await watching.run() }
        } catch {
            state = .failed(error.localizedDescription)
        }
    }
}

/// Where the app keeps things. Unfinished work is no cache: the system would delete it.
enum Places {
    private static let support = URL.applicationSupportDirectory
    static let models = support.appendingPathComponent("models")
    static let work = support.appendingPathComponent("work")
    static let videos = URL.documentsDirectory.appendingPathComponent("videos")
    static let telemetry = URL.documentsDirectory.appendingPathComponent("telemetry.jsonl")
}

struct Mp4Sinks: SinkMaker {
    func sink(for file: URL, framesPerSecond: Double) -> any VideoSink {
        Mp4Writer(target: file, framesPerSecond: framesPerSecond)
    }
}

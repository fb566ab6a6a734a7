import SoraKit
import SwiftUI

@main
struct SoraApp: App {
    @State private var session = Session.onThisPhone()

    init() {
        // Read at the first matrix product. What is computed on the CPU gets the performance cores; candle counts them on a
        // Mac only.
        setenv("RAYON_NUM_THREADS", "2", 0)
    }

    var body: some Scene {
        WindowGroup {
            RootView(session: session)
                .task {
                    // Tests bring what they need, and would share a folder with the app.
                    if ProcessInfo.processInfo.environment["XCTestConfigurationFilePath"] == nil { await session.open() }
                }
        }
    }
}

extension Session {
    /// With everything that is Apple's.
    static func onThisPhone() -> Session {
        let support = URL.applicationSupportDirectory
        let places = Places(
            models: support.appendingPathComponent("models"), work: support.appendingPathComponent("work"),
            videos: URL.documentsDirectory.appendingPathComponent("videos"),
            telemetry: URL.documentsDirectory.appendingPathComponent("telemetry.jsonl"))
        let phone = Phone(
            probe: PhoneMemory(), surroundings: PhoneSurroundings(), background: PhoneBackgroundTime(), sinks: Mp4Sinks(),
            newIntervals: { StageSignposts() }, golden: Bundle.main.url(forResource: "golden", withExtension: nil))
        let models = ModelImport(
            folder: places.models, fetcher: HttpRangeFetcher(), access: PhoneFolders(),
            newChecksum: { Sha256Checksum() })
        return Session(phone: phone, places: places, models: models)
    }
}

struct Mp4Sinks: SinkMaker {
    func sink(for file: URL, framesPerSecond: Double) -> any VideoSink {
        Mp4Writer(target: file, framesPerSecond: framesPerSecond)
    }
}

import Foundation
import Observation
import SoraKit

/// Memory and heat, as gauges show them.
@Observable @MainActor
final class Gauges {
    private(set) var footprintBytes: UInt64 = 0
    private(set) var availableBytes: UInt64?
    private(set) var memory: MemoryState?
    private(set) var thermal = ThermalLevel.nominal
    private(set) var deaths: [String] = []

    private let runner: any SoraRunnerProtocol
    private let probe: any MemoryProbe
    private let surroundings: any Surroundings

    init(runner: any SoraRunnerProtocol, probe: any MemoryProbe, surroundings: any Surroundings) {
        self.runner = runner
        self.probe = probe
        self.surroundings = surroundings
    }

    /// The part of the budget that is used, from 0 to 1.
    var usedPart: Double {
        guard let memory, memory.budgetBytes > 0 else { return 0 }
        return min(1, Double(memory.usedBytes) / Double(memory.budgetBytes))
    }

    func look() async {
        footprintBytes = probe.footprintBytes
        availableBytes = probe.availableBytes
        guard let status = try? await runner.status() else { return }
        memory = status.memory
        deaths = status.deaths
    }

    /// Looks every second, until its task is cancelled.
    func watch() async {
        let heat = Task { for await level in surroundings.thermalLevels() { thermal = level } }
        defer { heat.cancel() }
        while !Task.isCancelled {
            await look()
            try? await Task.sleep(for: .seconds(1))
        }
    }
}

import Testing

@testable import SoraKit

@Suite struct RunnerWatchTests {
    private let budget = MemoryBudget(reserveBytes: 100, mostBytes: 1_200)

    private func heard(_ phone: FakePhone) async -> [String] {
        let runner = FakeRunner()
        await RunnerWatch(runner: runner, surroundings: phone, probe: phone, background: phone, budget: budget).run()
        return runner.heard
    }

    @Test func pressureShrinksTheBudgetAndItsEndRaisesIt() async {
        let heard = await heard(FakePhone(pressures: [.warning, .critical, .normal]))
        #expect(heard == ["warning 900", "warning 400", "budget 1200"])
    }

    @Test func heatIsHandedOn() async {
        #expect(await heard(FakePhone(levels: [.serious, .nominal])) == ["thermal serious", "thermal nominal"])
    }

    @Test func theBackgroundPauses() async {
        #expect(await heard(FakePhone(phases: [.inactive, .foreground])) == ["pause", "resume"])
    }

    @Test func theBackgroundGivesMemoryBackUntilTheAppReturns() async {
        let heard = await heard(FakePhone(phases: [.inactive, .background, .foreground]))
        #expect(heard == ["pause", "pause", "warning 0", "budget 1200", "resume"])
    }

    @Test func budgetsDoNotOverflow() {
        let roomy = FakePhone(availableBytes: .max, footprintBytes: .max)
        #expect(MemoryBudget().bytes(probe: roomy) == MemoryBudget().mostBytes)
        let full = FakePhone(availableBytes: 0, footprintBytes: 50)
        #expect(budget.bytes(probe: full) == 0)
        let silent = FakePhone(availableBytes: nil)
        #expect(budget.bytes(probe: silent) == 1_200)
        // The system tells nothing, and warns all the same.
        #expect(budget.bytes(probe: silent, pressure: .warning) == 400)
        #expect(budget.bytes(probe: silent, pressure: .critical) == 400)
    }
}

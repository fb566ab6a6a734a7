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

    /// What a runner hears, of a phone that is looked at all the time, until it has heard `last`, and for a while after.
    private func heard(
        _ phone: FakePhone, calm: Duration, until last: String, andFor rest: Duration = .milliseconds(50)
    ) async throws -> [String] {
        let runner = FakeRunner()
        let watch = RunnerWatch(
            runner: runner, surroundings: phone, probe: phone, background: phone, budget: budget,
            rhythm: .init(look: .milliseconds(1), calm: calm))
        let watching = Task { await watch.run() }
        let start = ContinuousClock.now
        while !runner.heard.contains(last), start.duration(to: .now) < .seconds(20) {
            try await Task.sleep(for: .milliseconds(1))
        }
        try await Task.sleep(for: rest)
        watching.cancel()
        await watching.value
        return runner.heard
    }

    @Test func aWarningThatNobodyTakesBackIsOverAfterAWhile() async throws {
        let warned = FakePhone(pressures: [.warning], goesOn: true)
        let late = try await heard(warned, calm: .milliseconds(20), until: "budget 1200")
        #expect(late == ["warning 900", "budget 1200"])
        let early = try await heard(warned, calm: .seconds(60), until: "warning 900")
        #expect(early == ["warning 900"])
    }

    @Test func noBudgetIsRaisedInTheBackground() async throws {
        let away = FakePhone(pressures: [.warning], phases: [.background], goesOn: true)
        let heard = try await heard(away, calm: .milliseconds(300), until: "warning 0", andFor: .milliseconds(500))
        #expect(heard.sorted() == ["pause", "warning 0", "warning 900"])
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

    @Test func whatWaitsForTheReturnHearsOfItWhenMemoryIsThere() async {
        let (runner, phone) = (FakeRunner(), FakePhone(phases: [.background, .foreground]))
        await RunnerWatch(
            runner: runner, surroundings: phone, probe: phone, background: phone, budget: budget,
            afterReturn: { runner.hear("return") }
        ).run()
        #expect(runner.heard == ["pause", "warning 0", "budget 1200", "resume", "return"])
    }

    @Test func toBeInTheForegroundFromTheStartChangesNothing() async {
        let phone = FakePhone(phases: [.foreground])
        #expect(await heard(phone) == ["resume"])
        #expect(await phone.times.begun == 0)
    }

    @Test func timeInTheBackgroundIsHeldUntilMemoryIsGivenBack() async {
        for phases: [AppPhase] in [[.inactive, .foreground], [.inactive, .background], [.background], [.inactive]] {
            let phone = FakePhone(phases: phases)
            _ = await heard(phone)
            #expect(await phone.times.begun == 1)
            #expect(await phone.times.ended == 1)
        }
        let twice = FakePhone(phases: [.inactive, .background, .foreground, .inactive, .background])
        _ = await heard(twice)
        #expect(await twice.times.begun == 2)
        #expect(await twice.times.ended == 2)
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

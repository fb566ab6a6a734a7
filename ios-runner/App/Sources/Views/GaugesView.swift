import SoraKit
import SwiftUI

struct GaugesView: View {
    let gauges: Gauges
    let telemetry: TelemetryDesk

    var body: some View {
        NavigationStack {
            List {
                Section("Memory") {
                    Gauge(value: gauges.usedPart) {
                        Text("Budget")
                    } currentValueLabel: {
                        Text(gauges.usedPart, format: .percent.precision(.fractionLength(0)))
                    }
                    .tint(gauges.usedPart > 0.9 ? .orange : .green)
                    if let memory = gauges.memory {
                        Bytes("Accounted for", memory.usedBytes)
                        Bytes("Of these only kept", memory.spareBytes)
                        Bytes("Most so far", memory.peakBytes)
                        Bytes("Budget", memory.budgetBytes)
                    }
                    Bytes("The app's footprint", gauges.footprintBytes)
                    if let available = gauges.availableBytes { Bytes("Still to be had", available) }
                }
                Section("Heat") {
                    LabeledContent("Level", value: thermalName)
                }
                if !gauges.deaths.isEmpty {
                    Section("Stages that died") {
                        ForEach(gauges.deaths, id: \.self) { Text(verbatim: $0).foregroundStyle(.red) }
                    }
                }
                NavigationLink("Telemetry") { TelemetryView(desk: telemetry) }
            }
            .navigationTitle("Gauges")
            .task { await gauges.watch() }
        }
    }

    private var thermalName: String {
        switch gauges.thermal {
        case .nominal: localized("As it should be")
        case .fair: localized("Warm")
        case .serious: localized("Hot: resting half of the time")
        case .critical: localized("Too hot: resting most of the time")
        }
    }
}

private struct Bytes: View {
    let title: LocalizedStringKey
    let bytes: UInt64

    init(_ title: LocalizedStringKey, _ bytes: UInt64) {
        self.title = title
        self.bytes = bytes
    }

    var body: some View {
        LabeledContent(title) {
            Text(Int64(clamping: bytes), format: .byteCount(style: .memory)).monospacedDigit()
        }
    }
}

struct TelemetryView: View {
    @Bindable var desk: TelemetryDesk
    @AppStorage(Session.Setting.scrapeAddress) private var scrapeAddress = ""

    var body: some View {
        List {
            Section {
                TextField("http://gateway:9091", text: $desk.gateway)
                    .textInputAutocapitalization(.never)
                    .autocorrectionDisabled()
                    .keyboardType(.URL)
                if desk.isPushing {
                    Button("Stop pushing") { Task { await desk.stopPushing() } }
                } else {
                    Button("Push metrics") { Task { await desk.push() } }.disabled(desk.gateway.isEmpty)
                }
                if let trouble = desk.trouble { Text(verbatim: trouble).foregroundStyle(.red) }
            } header: {
                Text("Gateway")
            }
            Section {
                TextField("0.0.0.0:9090", text: $scrapeAddress)
                    .textInputAutocapitalization(.never)
                    .autocorrectionDisabled()
            } header: {
                Text("Scrape address")
            } footer: {
                Text("It is served from the app's next start on. Whoever can reach the phone can read it.")
            }
            Section("Export") {
                ShareLink("Lines of JSON", item: desk.file)
                if let page = desk.page { ShareLink("Prometheus page", item: page) }
            }
            Section("Metrics") {
                Text(verbatim: desk.text).font(.caption.monospaced()).textSelection(.enabled)
            }
        }
        .navigationTitle("Telemetry")
        .refreshable { await desk.refresh() }
        .task { desk.refresh() }
    }
}

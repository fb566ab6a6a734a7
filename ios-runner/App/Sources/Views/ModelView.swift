import SoraKit
import SwiftUI
import UniformTypeIdentifiers

struct ModelView: View {
    let session: Session
    let model: ModelDescription
    let selfCheck: SelfCheck

    @State private var picksFolder = false
    @State private var address = ""
    @State private var name = "open-sora-v1.2"

    var body: some View {
        NavigationStack {
            Form {
                Section("Open") {
                    LabeledContent("Name") { Text(verbatim: model.name) }
                    LabeledContent("Computes on") { Text(verbatim: "\(model.device), \(model.precision)") }
                    Button("Use the embedded model") { Task { await session.use(model: nil) } }
                        .disabled(!canUse(nil))
                    ForEach(session.models.installed, id: \.self) { folder in
                        Button { Task { await session.use(model: folder) } } label: { Text(verbatim: folder) }
                            .disabled(!canUse(folder))
                            .deleteDisabled(session.models.isWorking || session.modelFolder == folder)
                    }
                    .onDelete { remove($0, of: session.models.installed) }
                }
                if !session.models.partial.isEmpty {
                    Section("Not whole") {
                        ForEach(session.models.partial, id: \.self) {
                            Text(verbatim: $0).deleteDisabled(session.models.isWorking)
                        }
                        .onDelete { remove($0, of: session.models.partial) }
                    }
                }
                Section {
                    Button("Import a folder from Files") { picksFolder = true }.disabled(session.models.isWorking)
                    TextField("https://…/open-sora-v1.2", text: $address)
                        .textInputAutocapitalization(.never)
                        .autocorrectionDisabled()
                        .keyboardType(.URL)
                    TextField("Name of its folder", text: $name).textInputAutocapitalization(.never)
                    Button("Download, or go on") { download() }
                        .disabled(!canDownload)
                    importState
                } header: {
                    Text("Import")
                } footer: {
                    Text("The address is a folder with SHA256SUMS in it. Interrupted downloads go on where they were.")
                }
                NavigationLink("Self-check") { SelfCheckView(check: selfCheck) }
            }
            .navigationTitle("Model")
            .toolbar { EditButton() }
            .fileImporter(isPresented: $picksFolder, allowedContentTypes: [.folder]) { picked in
                guard case .success(let folder) = picked else { return }
                Task { await session.copy(from: folder) }
            }
        }
    }

    /// A self-check needs the runner that another model would replace.
    private func canUse(_ folder: String?) -> Bool { !selfCheck.isRunning && session.canUse(model: folder) }

    private var canDownload: Bool {
        !session.models.isWorking && URL(string: address)?.host() != nil && !name.isEmpty && !name.contains("/")
            && !name.hasPrefix(".")
    }

    @ViewBuilder private var importState: some View {
        switch session.models.state {
        case .idle: EmptyView()
        case .copying:
            ProgressView("Copying…")
            cancelButton
        case .removing: ProgressView("Deleting…")
        case .working(let file, let bytes):
            LabeledContent {
                Text(Int64(clamping: bytes), format: .byteCount(style: .file)).monospacedDigit()
            } label: {
                Text(verbatim: file)
            }
            cancelButton
        case .done: Label("It is there.", systemImage: "checkmark.circle")
        case .failed(let reason): Text(verbatim: reason).foregroundStyle(.red)
        }
    }

    private var cancelButton: some View {
        Button("Cancel", role: .destructive) { session.models.cancel() }
    }

    private func remove(_ places: IndexSet, of names: [String]) {
        let gone = places.map { names[$0] }
        Task { for name in gone { await session.remove(model: name) } }
    }

    private func download() {
        guard let base = URL(string: address) else { return }
        Task { await session.download(from: base, name: name) }
    }
}

struct SelfCheckView: View {
    let check: SelfCheck

    var body: some View {
        List {
            Section {
                Button("Run the golden cases") { Task { await check.runCases() } }
                Button("Time small blocks") { Task { await check.runBenchmark(fullSize: false) } }
                Button("Time blocks of full size") { Task { await check.runBenchmark(fullSize: true) } }
                if check.isRunning { ProgressView() }
                if let trouble = check.trouble { Text(verbatim: trouble).foregroundStyle(.red) }
            } footer: {
                Text("No video may be on its way. Full size takes about a gigabyte.")
            }
            .disabled(check.isRunning)
            if !check.cases.isEmpty {
                Section("\(check.passed) of \(check.cases.count) cases passed") {
                    ForEach(check.cases, id: \.name) { golden in
                        Label {
                            VStack(alignment: .leading) {
                                Text(verbatim: golden.name)
                                if let reason = golden.reason {
                                    Text(verbatim: reason).font(.caption).foregroundStyle(.red)
                                }
                            }
                        } icon: {
                            Image(systemName: golden.passed ? "checkmark.circle" : "xmark.circle")
                                .foregroundStyle(golden.passed ? .green : .red)
                                .accessibilityLabel(golden.passed ? Text("Passed") : Text("Failed"))
                        }
                        .accessibilityElement(children: .combine)
                    }
                }
            }
            if !check.timings.isEmpty {
                Section("Timings") {
                    ForEach(check.timings, id: \.what) { timing in
                        LabeledContent {
                            if let failure = timing.failure {
                                Text(verbatim: failure).foregroundStyle(.red)
                            } else {
                                Text("\(timing.seconds, format: .number.precision(.significantDigits(3))) s")
                            }
                        } label: {
                            Text(verbatim: timing.what)
                        }
                    }
                }
            }
        }
        .navigationTitle("Self-check")
    }
}

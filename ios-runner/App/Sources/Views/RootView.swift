import SoraKit
import SwiftUI
import UIKit

struct RootView: View {
    let session: Session

    var body: some View {
        content
            // A phone that falls asleep pauses its videos.
            .onChange(of: session.isBusy, initial: true) { _, isBusy in
                UIApplication.shared.isIdleTimerDisabled = isBusy
            }
    }

    @ViewBuilder private var content: some View {
        switch session.state {
        case .opening:
            ProgressView("Opening the model…")
        case .failed(let reason):
            NavigationStack {
                ContentUnavailableView {
                    Label("The model cannot be opened", systemImage: "exclamationmark.triangle")
                } description: {
                    Text(verbatim: reason)
                } actions: {
                    Button("Try again") { Task { await session.tryAgain() } }
                    Button("Use the embedded model") { Task { await session.use(model: nil) } }
                        .disabled(!session.canUse(model: nil))
                    ForEach(session.models.installed.filter { session.canUse(model: $0) }, id: \.self) { folder in
                        Button { Task { await session.use(model: folder) } } label: { Text(verbatim: folder) }
                    }
                }
            }
        case .open(let desk):
            TabView {
                Tab("Make", systemImage: "wand.and.stars") {
                    MakeView(settings: desk.settings, studio: desk.studio)
                }
                Tab("Gallery", systemImage: "film.stack") { GalleryView(gallery: desk.gallery) }
                Tab("Gauges", systemImage: "gauge.with.dots.needle.50percent") {
                    GaugesView(gauges: desk.gauges, telemetry: desk.telemetry)
                }
                Tab("Model", systemImage: "shippingbox") {
                    ModelView(session: session, model: desk.model, selfCheck: desk.selfCheck)
                }
            }
        }
    }
}

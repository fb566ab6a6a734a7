import SoraKit
import SwiftUI

struct RootView: View {
    let session: Session

    var body: some View {
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
                    Button("Use the embedded model") { Task { await session.use(model: nil) } }
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

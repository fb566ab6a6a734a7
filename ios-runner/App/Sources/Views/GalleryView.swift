import AVKit
import SwiftUI

struct GalleryView: View {
    let gallery: Gallery
    @State private var trouble: String?

    private let columns = [GridItem(.adaptive(minimum: 150), spacing: 12)]

    var body: some View {
        NavigationStack {
            ScrollView {
                LazyVGrid(columns: columns, spacing: 12) {
                    ForEach(gallery.entries) { entry in
                        NavigationLink(value: entry) {
                            Thumbnail(entry: entry, file: gallery.file(of: entry))
                        }
                        .contextMenu {
                            ShareLink(item: gallery.file(of: entry))
                            Button("Delete", systemImage: "trash", role: .destructive) { delete(entry) }
                        }
                    }
                }
                .padding()
            }
            .overlay {
                if gallery.entries.isEmpty {
                    ContentUnavailableView("No videos yet", systemImage: "film.stack")
                }
            }
            .navigationTitle("Gallery")
            .navigationDestination(for: Gallery.Entry.self) { entry in
                PlayerView(entry: entry, file: gallery.file(of: entry))
            }
            .alert("It cannot be deleted", isPresented: .constant(trouble != nil)) {
                Button("OK") { trouble = nil }
            } message: {
                Text(verbatim: trouble ?? "")
            }
        }
    }

    private func delete(_ entry: Gallery.Entry) {
        do { try gallery.delete(entry) } catch { trouble = error.localizedDescription }
    }
}

private struct Thumbnail: View {
    let entry: Gallery.Entry
    let file: URL
    @State private var picture: CGImage?

    var body: some View {
        VStack(alignment: .leading) {
            ZStack {
                Rectangle().fill(.quaternary)
                if let picture {
                    Image(decorative: picture, scale: 1).resizable().scaledToFill()
                }
            }
            .frame(height: 110)
            .clipShape(.rect(cornerRadius: 8))
            Text(verbatim: entry.prompt).font(.caption).lineLimit(2)
        }
        .accessibilityElement(children: .combine)
        .task {
            let maker = AVAssetImageGenerator(asset: AVURLAsset(url: file))
            maker.maximumSize = CGSize(width: 400, height: 400)
            picture = try? await maker.image(at: .zero).image
        }
    }
}

private struct PlayerView: View {
    let entry: Gallery.Entry
    let file: URL
    @State private var player: AVPlayer?

    var body: some View {
        VideoPlayer(player: player)
            .navigationTitle(Text(verbatim: entry.prompt))
            .navigationBarTitleDisplayMode(.inline)
            .toolbar { ShareLink(item: file) }
            .onAppear {
                let player = player ?? AVPlayer(url: file)
                self.player = player
                player.play()
            }
    }
}

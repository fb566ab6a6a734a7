import SoraKit
import SwiftUI

struct MakeView: View {
    @Bindable var settings: AppSettings
    @Bindable var studio: Studio

    var body: some View {
        NavigationStack {
            Form {
                Section("Prompt") {
                    TextField("What the video shall show", text: $settings.prompt, axis: .vertical)
                        .lineLimit(2...6)
                    Button("Make the video", systemImage: "play.fill") {
                        Task { await studio.make(settings.request) }
                    }
                    .disabled(!settings.isComplete)
                    if let trouble = studio.trouble {
                        Label { Text(verbatim: trouble) } icon: { Image(systemName: "exclamationmark.triangle") }
                            .foregroundStyle(.red)
                    }
                }
                if !studio.videos.isEmpty {
                    Section("On their way") {
                        ForEach(studio.videos) { video in
                            ProgressRow(video: video) { studio.cancel(video) }
                        }
                        if studio.videos.contains(where: \.isOver) {
                            Button("Clear those that are over") { studio.clearEnded() }
                        }
                    }
                }
                if !studio.unfinished.isEmpty {
                    Section("Unfinished") {
                        ForEach(studio.unfinished, id: \.key) { video in
                            UnfinishedRow(video: video, studio: studio)
                        }
                    }
                }
                SettingsSections(settings: settings, showsPreviews: $studio.showsPreviews)
            }
            .navigationTitle("Sora")
        }
    }
}

private struct UnfinishedRow: View {
    let video: UnfinishedVideo
    let studio: Studio

    var body: some View {
        VStack(alignment: .leading) {
            Text(verbatim: video.prompt)
            Text("\(video.stepsDone) of \(video.steps) steps")
                .font(.caption)
                .foregroundStyle(.secondary)
            if let obstacle = video.obstacle {
                Text(verbatim: obstacle).font(.caption).foregroundStyle(.red)
            } else {
                Button("Go on", systemImage: "play") { Task { await studio.goOn(with: video) } }
                    .buttonStyle(.borderless)
            }
        }
        .accessibilityElement(children: .contain)
        .swipeActions {
            Button("Delete", role: .destructive) { Task { await studio.forget(video) } }
        }
    }
}

struct ProgressRow: View {
    let video: VideoProgress
    let cancel: () -> Void

    var body: some View {
        VStack(alignment: .leading, spacing: 8) {
            HStack {
                Text(verbatim: video.prompt).lineLimit(2)
                Spacer()
                if !video.isOver {
                    Button("Cancel", systemImage: "xmark.circle", role: .destructive, action: cancel)
                        .labelStyle(.iconOnly)
                        .buttonStyle(.borderless)
                }
            }
            if let picture = video.preview?.image() {
                Image(picture, scale: 1, label: Text("Preview"))
                    .resizable()
                    .scaledToFit()
                    .frame(maxHeight: 220)
                    .clipShape(.rect(cornerRadius: 8))
            }
            if let fraction = video.fraction {
                ProgressView(value: fraction)
            } else if !video.isOver {
                ProgressView()
            }
            stage.font(.caption).foregroundStyle(.secondary)
        }
        .accessibilityElement(children: .contain)
    }

    @ViewBuilder private var stage: some View {
        switch video.stage {
        case .queued(let position): Text("\(position) videos wait before it")
        case .embedding: Text("Reading the prompt")
        case .denoising(let done, let of):
            if let left = video.secondsLeft {
                let time = Duration.seconds(left).formatted(.units(width: .wide, maximumUnitCount: 1))
                Text("Step \(done) of \(of), about \(time) left")
            } else {
                Text("Step \(done) of \(of)")
            }
        case .decoding(let done, let of): Text("Frame \(done) of \(of)")
        case .finished(let seconds):
            Text("In the gallery, after \(Duration.seconds(seconds).formatted(.units(width: .wide, maximumUnitCount: 2)))")
        case .cancelled: Text("Cancelled")
        case .failed(let reason): Text(verbatim: reason).foregroundStyle(.red)
        }
    }
}

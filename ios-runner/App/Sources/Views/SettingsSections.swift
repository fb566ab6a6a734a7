import SwiftUI

struct SettingsSections: View {
    @Bindable var settings: AppSettings
    @Binding var showsPreviews: Bool

    var body: some View {
        Section("Video") {
            Stepper("Width: \(settings.width) px", value: $settings.width, in: 16...1024, step: 8)
            Stepper("Height: \(settings.height) px", value: $settings.height, in: 16...1024, step: 8)
            Stepper("Frames: \(settings.frames)", value: $settings.frames, in: 1...204)
            TextField("Seed", value: $settings.seed, format: .number.grouping(.never))
                .keyboardType(.numberPad)
            Toggle("Show previews", isOn: $showsPreviews)
        }
        Section {
            Stepper("Steps: \(settings.steps)", value: $settings.steps, in: 1...100)
            LabeledContent("Guidance") {
                Slider(value: $settings.guidance, in: 0...15, step: 0.5) { Text("Guidance") }
            }
            Picker("Leap", selection: $settings.leap) {
                Text("Off").tag(AppSettings.Leap.off)
                Text("Dynamic").tag(AppSettings.Leap.dynamic)
                Text("At a step").tag(AppSettings.Leap.fixed)
            }
            if settings.leap == .fixed {
                Stepper("Leap at step \(settings.leapStep)", value: $settings.leapStep, in: 1...99)
            }
            Picker("Merge frame pairs", selection: $settings.merge) {
                Text("Off").tag(AppSettings.Merge.off)
                Text("In the first steps").tag(AppSettings.Merge.first)
                Text("In all steps").tag(AppSettings.Merge.all)
            }
            if settings.merge == .first {
                Stepper("Merged steps: \(settings.mergedSteps)", value: $settings.mergedSteps, in: 1...100)
            }
        } header: {
            Text("Sampling")
        } footer: {
            Text("Leaping and merging make it faster. Merging costs some motion.")
        }
    }
}

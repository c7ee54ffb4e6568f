import ArgumentParser
import Foundation
import Logging

/// The command line. One file a verb; here only the list of them and the way out.
@main struct FedLoRA: AsyncParsableCommand {
  static let version = "0.1.0"

  static let configuration = CommandConfiguration(
    commandName: "fedlora",
    abstract: "Fine-tune one transformer together, on data that stays where it is.",
    discussion: """
      Try it:   fedlora simulate
      Look:     fedlora inspect DIR              what a model folder holds, and what an adapter would weigh
      For real: fedlora ca init my-ca            certificates for a coordinator and its clients
                fedlora coordinator run.yaml     serves a run, and enrolment where the run file says so
                fedlora ca token clinic-a --ca my-ca --server HOST:7444
                fedlora enroll --token fl1.…     at the clinic: makes its key and gets its certificate
                fedlora client --server HOST:PORT --identity clinic-a --model DIR --data mine.jsonl
      After it: fedlora generate MODEL --adapter DIR --prompt TEXT   what a language model says with an adapter

      Standard output is data, standard error is progress. Exit codes: 0 done, 1 failed, 64 wrong usage, 65 bad data or
      configuration, 69 the other side could not be reached or refused, 74 a disk is full or cannot be read or written, 75 the run
      failed or was stopped, 130 interrupted.
      """,
    version: version,
    subcommands: [
      Simulate.self, Coordinator.self, Client.self, CA.self, Enroll.self, Status.self, Log.self, Stop.self, Abort.self,
      Resume.self, Remove.self, Reload.self, Privacy.self, Inspect.self, Generate.self, Bench.self,
    ]
  )

  static func main() async {
    let arguments = Array(CommandLine.arguments.dropFirst())
    let wantsJSON =
      zip(arguments, arguments.dropFirst()).contains { $0 == "--format" && $1 == "json" }
      || arguments.contains("--format=json")
    do {
      var command = try parseAsRoot(arguments)
      if var asynchronous = command as? any AsyncParsableCommand {
        try await asynchronous.run()
      } else {
        try command.run()
      }
    } catch {
      let status = ExitStatus(error)
      if error is CleanExit || ExitStatus.isHelp(error) { exit(withError: error) }
      // The parser explains its own errors; a verb's are sentences already, and the parser would give them another status.
      if status == .usage, !(error is CommandFailure) {
        if wantsJSON { Output.printFailure(status: status, message: message(for: error)) }
        exit(withError: error)
      }
      if wantsJSON, (error as? CommandFailure)?.isPrinted != true {
        Output.printFailure(status: status, message: Output.message(for: error))
      }
      Output.note("fedlora: \(Output.message(for: error))", level: .error)
      Foundation.exit(status.rawValue)
    }
  }
}

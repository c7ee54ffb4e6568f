import FedLoRADP
import Foundation
import Testing

/// That the tests over tables really see every row of them, and the columns that the other suites leave out.
///
/// dp_exact, dp_vectors, dp_hetero: `AccountantReferenceTests`; dp_calibration: `CalibrationTests`; dp_gaussian:
/// `GaussianDPTests`; dp_audit: here. dp_distributed is about noise that clients add in shares, which fedlora does not have.
@Suite("Tables of reference values")
struct ReferenceCoverageTests {
  @Test(
    "are read to their last row, and no number of them is lost on the way",
    .enabled(if: !ReferenceTables.rows("dp_exact_public.csv").isEmpty),
    arguments: [
      ("dp_exact_public.csv", 30, ["q", "sigma", "steps", "delta", "eps_exact"]),
      ("dp_vectors_public.csv", 30, ["q", "sigma", "steps", "delta", "eps_rdp", "eps_pld_upper", "eps_pld_lower"]),
      ("dp_hetero_public.csv", 5, ["delta", "eps_rdp", "eps_exact"]),
      ("dp_calibration_public.csv", 15, ["q", "steps", "delta", "target_eps", "sigma_exact", "sigma_rdp"]),
      ("dp_gaussian_public.csv", 13, ["sigma", "eps", "delta"]),
      (
        "dp_audit_public.csv", 4,
        ["m", "n_guess", "n_correct", "delta", "significance", "p_value_at_eps1", "eps_lower_bound"]
      ),
    ] as [(String, Int, [String])]
  )
  func complete(file: String, least: Int, columns: [String]) {
    let rows = ReferenceTables.rows(file)
    #expect(rows.count >= least)
    for row in rows { for column in columns { #expect(row.number(column).isFinite, "\(column) of \(row)") } }
  }

  @Test(
    "Gaussian values agree to 1e-10, whatever is asked for",
    .enabled(if: !ReferenceTables.rows("dp_gaussian_public.csv").isEmpty),
    arguments: ReferenceTables.rows("dp_gaussian_public.csv")
  )
  func gaussian(row: ReferenceTables.Row) throws {
    let (sigma, epsilon, delta) = (row.number("sigma"), row.number("eps"), row.number("delta"))
    let found: (Double, Double) =
      switch row.fields["kind"] {
      case "eps_from_sigma_delta": (try GaussianDP(noiseMultiplier: sigma).epsilon(delta: delta), epsilon)
      case "delta_from_sigma_eps": (try GaussianDP(noiseMultiplier: sigma).delta(epsilon: epsilon), delta)
      case "sigma_from_eps_delta": (try GaussianDP.noiseMultiplier(epsilon: epsilon, delta: delta), sigma)
      default: (.nan, 0)
      }
    #expect(abs(found.0 / found.1 - 1) <= 1e-10)
    guard row.fields["kind"] == "eps_from_sigma_delta" else { return }
    let phase = try poisson(1, sigma, 1)
    #expect(abs(try addOrRemove.epsilon(of: [phase], delta: delta).epsilon / epsilon - 1) <= 1e-10)
  }

  @Test(
    "one-run audits have the table's p-values and bounds",
    .enabled(if: !ReferenceTables.rows("dp_audit_public.csv").isEmpty),
    arguments: ReferenceTables.rows("dp_audit_public.csv")
  )
  func audit(row: ReferenceTables.Row) throws {
    let p = AuditBound.oneRunPValue(
      epsilon: 1,
      canaries: row.count("m"),
      guesses: row.count("n_guess"),
      correct: row.count("n_correct"),
      delta: row.number("delta")
    )
    #expect(abs(p / row.number("p_value_at_eps1") - 1) <= 1e-9)
    let bound = try AuditBound.oneRun(
      canaries: row.count("m"),
      guesses: row.count("n_guess"),
      correct: row.count("n_correct"),
      delta: row.number("delta"),
      significance: row.number("significance")
    )
    #expect(abs(bound - row.number("eps_lower_bound")) <= 1e-8)
  }

  @Test(
    "the Rényi bound meets the target at the noise that others calibrated by it, and more noise than that is never needed",
    .enabled(if: !ReferenceTables.rows("dp_calibration_public.csv").isEmpty),
    arguments: ReferenceTables.rows("dp_calibration_public.csv")
  )
  func rdpCalibration(row: ReferenceTables.Row) throws {
    let (sigma, target) = (row.number("sigma_rdp"), row.number("target_eps"))
    let phase = try poisson(row.number("q"), sigma, row.count("steps"))
    #expect(abs(try addOrRemove.rdpEpsilon(of: [phase], delta: row.number("delta")) / target - 1) <= 1e-6)
    let least = try Calibration.noiseMultiplier(
      epsilon: target,
      delta: row.number("delta"),
      sampling: phase.sampling,
      steps: phase.steps,
      relation: .addOrRemoveOne
    )
    #expect(least < sigma)
    // The other calibration is to 1e-6 absolute or to seven digits.
    #expect(least <= row.number("sigma_pld") * (1 + 2e-6))
  }
}

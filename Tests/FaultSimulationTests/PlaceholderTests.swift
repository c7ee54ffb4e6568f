import FedLoRAFaultSimulation
import Testing

@Test func one() throws { #expect(try FaultWorld(seed: 1).play().violations == []) }

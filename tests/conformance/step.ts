/**
 * Steps of a driver profile.
 *
 * A profile is data: the facts of one release of a driver, and a list of steps.
 * A step does one thing that the driver does, says what it is and which function
 * of the driver's source it follows, and checks what the driver relies on.
 *
 * @module
 */

/** One thing that a driver does. */
export interface Step<Machine> {
  /** What is done, for people. */
  readonly what: string;
  /**
   * Where the driver does it: file and function, several after `;`. Files are
   * below `sys/dev/virtio` of freebsd-src where no other folder is named. A
   * function, where that differs between releases.
   */
  readonly source: string | ((machine: Machine) => string);
  /** Does it, on a machine with that driver, and checks what comes of it. */
  run(machine: Machine): Promise<void>;
}

/** Runs steps in order, each as a step of a test; the first failure ends it. */
export async function runSteps<Machine>(
  test: Deno.TestContext,
  machine: Machine,
  steps: readonly Step<Machine>[],
): Promise<void> {
  for (const step of steps) {
    const source = typeof step.source === "string"
      ? step.source
      : step.source(machine);
    const passed = await test.step({
      name: `${step.what} (${source})`,
      fn: () => step.run(machine),
    });
    // What comes next starts from what this step left behind.
    if (!passed) return;
  }
}

/**
 * What a run of the tests consists of, from fast to real. `tests/run.ts` runs
 * the phases in this order; the time limits are for two cores.
 *
 * @module
 */

/** A phase runs `deno` on tests, or on something else that can fail. */
export interface Phase {
  /** What `--only` takes. */
  readonly name: string;
  /** What it shows, as one line. */
  readonly title: string;
  /** Phases of one group can be run together: `--only ok`. */
  readonly group: "ok" | "system";
  /** Seconds after which it is ended and counts as failed. */
  readonly timeout: number;
  /** Run with `--long` alone. */
  readonly long?: boolean;
  /** What to run. */
  readonly run: TestRun | CommandRun;
}

/** Test files for `deno test`. */
export interface TestRun {
  /** Folders and files; those that do not exist are passed over. */
  readonly tests: readonly string[];
  /** Folders and files to leave out. */
  readonly except?: readonly string[];
  /** Permissions of the tests, none when empty. */
  readonly permissions: readonly string[];
  /** Whether the lines they reach count for the coverage of the gate. */
  readonly coverage?: boolean;
  /** Show what the tests print while they run, because they take long. */
  readonly live?: boolean;
}

/** Arguments of `deno`: one check, passed when it exits with 0. */
export interface CommandRun {
  /** The arguments. */
  readonly command: readonly string[];
  /** Show what it prints although it passes. */
  readonly report?: boolean;
}

/** Modules whose documentation is complete, by `deno doc --lint`. */
export const publicModules: readonly string[] = [
  "mod.ts",
  "backends/blk/mod.ts",
  "backends/net/mod.ts",
  "backends/scsi/mod.ts",
  "backends/balloon/mod.ts",
  "virtqueue/testing/mod.ts",
];

/** Tests of benchmarks that run processes. */
const BENCHMARKS = [
  "tests/bench/commands_test.ts",
  "tests/bench/gc_test.ts",
  "tests/bench/load_test.ts",
];

/** The phases, in order. */
export const phases: readonly Phase[] = [
  {
    name: "format",
    title: "deno fmt --check",
    group: "ok",
    timeout: 60,
    run: { command: ["fmt", "--check"] },
  },
  {
    name: "lint",
    title: "deno lint, with the rules of the house",
    group: "ok",
    timeout: 60,
    run: { command: ["lint"] },
  },
  {
    name: "types",
    title: "deno check, examples in comments too",
    group: "ok",
    timeout: 180,
    run: { command: ["check", "--doc", "."] },
  },
  {
    name: "api",
    title: "deno doc --lint of the public modules",
    group: "ok",
    timeout: 60,
    run: { command: ["doc", "--lint", ...publicModules] },
  },
  {
    name: "documents",
    title: "links and names in the documents",
    group: "ok",
    timeout: 60,
    run: { command: ["run", "--allow-read", "tools/check_docs.ts"] },
  },
  {
    name: "package",
    title: "deno publish --dry-run",
    group: "ok",
    timeout: 120,
    run: { command: ["publish", "--dry-run", "--allow-dirty"] },
  },
  {
    name: "pure",
    title: "unit and property tests that need no permission",
    group: "ok",
    timeout: 240,
    run: { tests: ["virtqueue"], permissions: [], coverage: true },
  },
  {
    name: "unit",
    title: "unit tests",
    group: "ok",
    timeout: 720,
    run: {
      tests: [
        "sys",
        "vhost",
        "backends",
        "host",
        "std",
        "tools",
        "docs",
        "tests/runner",
        "tests/support",
        "tests/bench",
        "tests/guest/rig",
      ],
      except: BENCHMARKS,
      permissions: ["--allow-all"],
      coverage: true,
    },
  },
  {
    name: "coverage",
    title: "lines that the unit tests reach",
    group: "ok",
    timeout: 120,
    run: {
      command: [
        "run",
        "--allow-read",
        "--allow-write=coverage",
        "--allow-run",
        "tools/coverage.ts",
      ],
      report: true,
    },
  },
  {
    name: "protocol",
    title: "our front-end and driver against a real server",
    group: "system",
    timeout: 900,
    run: {
      tests: [
        "tests/protocol",
        "tests/conformance",
        "tests/hostile",
        "tests/processes",
      ],
      permissions: ["--allow-all"],
      live: true,
    },
  },
  {
    name: "fuzz",
    title: "a minute of fuzzing, and what it led to before",
    group: "system",
    timeout: 900,
    run: { tests: ["tests/fuzz"], permissions: ["--allow-all"], live: true },
  },
  {
    name: "bench",
    title: "the benchmarks work",
    group: "system",
    timeout: 120,
    run: {
      tests: BENCHMARKS,
      permissions: ["--allow-all"],
    },
  },
  {
    name: "guest",
    title: "firmware and guests in QEMU",
    group: "system",
    timeout: 1500,
    run: {
      tests: ["tests/guest"],
      except: ["tests/guest/rig"],
      permissions: ["--allow-all"],
      live: true,
    },
  },
  {
    name: "freebsd",
    title: "a FreeBSD guest, where there is one",
    group: "system",
    timeout: 6 * 3600,
    run: {
      tests: [
        "tests/freebsd",
        // What finds its way to the guest, and what reads its words.
        "tests/guest/rig/boot_dialogue_test.ts",
        "tests/guest/rig/freebsd_disk_test.ts",
        "tests/guest/rig/freebsd_output_test.ts",
        "tests/guest/rig/freebsd_source_test.ts",
        "tests/guest/rig/kernel_trouble_test.ts",
        "tests/guest/scenarios",
      ],
      permissions: ["--allow-all"],
      live: true,
    },
  },
  {
    name: "long",
    title: "what takes long",
    group: "system",
    timeout: 3600,
    long: true,
    run: { tests: ["tests/long"], permissions: ["--allow-all"], live: true },
  },
];

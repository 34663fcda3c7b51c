import { assertEquals } from "@std/assert";
import { Spinner, type SpinnerOptions } from "@std/cli/unstable-spinner";

const clear = "\r\x1b[K";
const reset = Deno.noColor ? "" : "\x1b[0m";

/** A standard stream that keeps what is written, up to a number of writes. */
class Recorder {
  readonly written: string[] = [];
  readonly full = Promise.withResolvers<void>();
  readonly output: NonNullable<SpinnerOptions["output"]>;
  constructor(writes: number, onWrite?: () => void) {
    const writeSync = (data: Uint8Array): number => {
      this.written.push(new TextDecoder().decode(data));
      if (this.written.length === writes) this.full.resolve();
      onWrite?.();
      return data.length;
    };
    this.output = new Proxy(Deno.stdout, {
      get: (stream, key) =>
        key === "writeSync" ? writeSync : Reflect.get(stream, key),
    });
  }
}

/** The writes of a spinner that is stopped after as many frames as given. */
async function frames(
  count: number,
  options: SpinnerOptions,
): Promise<string[]> {
  const { output, written, full } = new Recorder(count);
  const spinner = new Spinner({ interval: 1, ...options, output });
  spinner.start();
  await full.promise;
  spinner.stop();
  return written;
}

Deno.test("Spinner shows its frames in turn and clears the line", async () => {
  assertEquals(await frames(3, { spinner: ["a", "b"], message: "Booting" }), [
    `${clear}a${reset} Booting`,
    `${clear}b${reset} Booting`,
    `${clear}a${reset} Booting`,
    clear,
  ]);
});

Deno.test("Spinner has frames of its own", async () => {
  const written = await frames(10, {});
  assertEquals(
    written.slice(0, 10),
    [..."⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"].map((frame) => `${clear}${frame}${reset} `),
  );
});

Deno.test("Spinner knows the names of colors", async (t) => {
  const codes = {
    black: 30,
    red: 31,
    green: 32,
    yellow: 33,
    blue: 34,
    magenta: 35,
    cyan: 36,
    white: 37,
    gray: 90,
  };
  for (const [color, code] of Object.entries(codes)) {
    await t.step(color, async () => {
      const spinner = new Spinner({ color });
      assertEquals(spinner.color, `\x1b[${code}m`);
      spinner.color = undefined;
      assertEquals(spinner.color, undefined);
      const start = Deno.noColor ? "" : `\x1b[${code}m`;
      assertEquals(await frames(1, { color, spinner: ["a"] }), [
        `${clear}${start}a${reset} `,
        clear,
      ]);
    });
  }
});

Deno.test("Spinner takes a new message and color while it runs", async () => {
  const recorder = new Recorder(2, () => {
    spinner.message = "second";
    spinner.color = "black";
  });
  const spinner: Spinner = new Spinner({
    spinner: ["a"],
    message: "first",
    interval: 1,
    output: recorder.output,
  });
  spinner.start();
  await recorder.full.promise;
  spinner.stop();
  assertEquals(recorder.written, [
    `${clear}a${reset} first`,
    `${clear}${Deno.noColor ? "" : "\x1b[30m"}a${reset} second`,
    clear,
  ]);
});

Deno.test("Spinner starts once and stops once", () => {
  const recorder = new Recorder(Infinity);
  const spinner = new Spinner({
    spinner: ["a"],
    interval: 60_000,
    output: recorder.output,
  });
  spinner.stop();
  spinner.start();
  spinner.start();
  spinner.stop();
  spinner.stop();
  assertEquals(recorder.written, [`${clear}a${reset} `, clear]);
});

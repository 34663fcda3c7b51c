/**
 * Programs that tests start, bounded in time.
 *
 * @module
 */

/** How a program ended and what it printed. */
export interface Outcome {
  /** Exit code. */
  code: number;
  /** All of its standard output. */
  stdout: string;
  /** All of its standard error. */
  stderr: string;
}

/** Runs a program to its end; kills it after so many milliseconds (30,000). */
export async function run(
  command: string,
  args: string[],
  input = "",
  timeout = 30_000,
): Promise<Outcome> {
  const child = new Deno.Command(command, {
    args,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
    signal: AbortSignal.timeout(timeout),
  }).spawn();
  const writer = child.stdin.getWriter();
  const written = writer.write(new TextEncoder().encode(input))
    .then(() => writer.close())
    .catch(() => {}); // It ended without reading all: its exit code tells.
  const { code, stdout, stderr } = await child.output();
  await written;
  const decoder = new TextDecoder();
  return {
    code,
    stdout: decoder.decode(stdout),
    stderr: decoder.decode(stderr),
  };
}

/** Arguments for the runtime that let {@linkcode source} come by its input. */
export const RUN_INPUT = ["run", "-A", "--no-check", "--no-lock", "-"];

/** The text of a program in which `"./x.ts"` is a module of this layer. */
export function source(text: string): string {
  return text.replaceAll(
    'from "./',
    `from "${new URL("../", import.meta.url)}`,
  );
}

/** Runs the text of a program in a process of its own. */
export function runSource(text: string, args: string[] = []): Promise<Outcome> {
  return run(Deno.execPath(), [...RUN_INPUT, ...args], source(text));
}

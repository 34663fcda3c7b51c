import { assert, assertEquals } from "@std/assert";
import { ChildProcess } from "../../tests/support/process.ts";

const SCRIPT = `
  const { ServerSignals } = await import(${
  JSON.stringify(new URL("./signals.ts", import.meta.url).href)
});
  const signals = new ServerSignals(
    () => console.log("hangup"),
    () => console.log("hurry"),
  );
  console.log("ready");
  console.log("stop", await signals.stop);
  await new Promise(() => setInterval(() => {}, 1000));
`;

function start(): ChildProcess {
  const args = ["eval", "--quiet", SCRIPT];
  return ChildProcess.start(Deno.execPath(), { args, name: "signals" });
}

Deno.test("ServerSignals ends the process at once on the second signal", async () => {
  const codes = { SIGINT: 130, SIGTERM: 143 } as const;
  for (const second of ["SIGINT", "SIGTERM"] as const) {
    await using child = start();
    await child.expect("ready", 10_000, "stdout");
    child.signal("SIGTERM");
    await child.expect("stop SIGTERM", 10_000, "stdout");
    child.signal(second);
    assertEquals((await child.wait(10_000)).code, codes[second]);
    assertEquals(child.stdout.text, "ready\nstop SIGTERM\nhurry\n");
  }
});

Deno.test("ServerSignals takes a signal that is passed on for its echo", async () => {
  const script = SCRIPT.replace(
    '() => console.log("hurry"),',
    '() => console.log("hurry"), 1000,',
  );
  const args = ["eval", "--quiet", script];
  await using child = ChildProcess.start(Deno.execPath(), {
    args,
    name: "signals",
  });
  await child.expect("ready", 10_000, "stdout");
  child.signal("SIGINT");
  await child.expect("stop SIGINT", 10_000, "stdout");
  const first = performance.now();
  child.signal("SIGINT");
  child.signal("SIGTERM");
  // Whoever asks again, is heard.
  while (!child.ended) {
    child.signal("SIGTERM");
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert(performance.now() - first < 20_000);
  }
  assert(performance.now() - first >= 900);
  assertEquals((await child.wait(10_000)).code, 143);
});

Deno.test("ServerSignals reports every SIGHUP and goes on", async () => {
  await using child = start();
  await child.expect("ready", 10_000, "stdout");
  for (let i = 0; i < 2; i++) {
    child.signal("SIGHUP");
    await child.expect("hangup", 10_000, "stdout");
  }
  assertEquals(child.ended, false);
  await child.stop("SIGKILL");
});

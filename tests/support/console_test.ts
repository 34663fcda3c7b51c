import { assert, assertEquals, assertRejects } from "@std/assert";
import { Console, ConsoleError } from "./console.ts";
import { TemporaryDirectory } from "./temporary_directory.ts";

/** A real interactive shell, its prompt among its output. */
function shell(prompt = "ready> "): Console {
  return Console.spawn("sh", {
    args: ["-c", "exec sh -i 2>&1"],
    env: { PS1: prompt, ENV: "" },
    name: "shell",
    prompt,
  });
}

Deno.test("expect finds what a child prints and skips it next time", async () => {
  await using console = Console.spawn("sh", {
    args: ["-c", "echo one 1; echo two 2; echo one 3"],
  });
  const first = await console.expect(/one (\d)/);
  assertEquals(first.groups, ["one 1", "1"]);
  const second = await console.expect(/one (\d)/);
  assertEquals(second.groups[1], "3");
  assertEquals(second.before, "\ntwo 2\n");
});

Deno.test("expect takes the earliest of several patterns", async () => {
  await using console = Console.spawn("sh", {
    args: ["-c", "echo boot failed; echo login:"],
  });
  const match = await console.expect(["login:", /fail\w+/]);
  assertEquals(match.index, 1);
  assertEquals(match.text, "failed");
});

Deno.test("what need not come is null, and what did come is still there", async () => {
  await using console = Console.spawn("cat", { failOn: [/panic/] });
  await console.sendLine("login: ");
  assertEquals(await console.tryExpect("shell", { timeout: 30 }), null);
  assertEquals((await console.tryExpect("login: "))?.text, "login: ");
  await console.sendLine("panic");
  const error = await assertRejects(
    () => console.tryExpect("shell"),
    ConsoleError,
  );
  assertEquals(error.kind, "failed");
});

Deno.test("expect finds a pattern that arrives in pieces", async () => {
  await using console = Console.spawn("cat", {});
  const found = console.expect("a whole prompt> ");
  await console.send("a whole ");
  await console.send("prompt> ");
  assertEquals((await found).text, "a whole prompt> ");
});

Deno.test("a wait that runs out names the pattern and keeps the transcript", async () => {
  using directory = TemporaryDirectory.make("console");
  await using console = Console.spawn("cat", {
    name: "guest",
    transcriptDirectory: directory.path,
  });
  await console.sendLine("Booting");
  await console.expect("Booting\n");
  const error = await assertRejects(
    () => console.expect("login:", { timeout: 30 }),
    ConsoleError,
    'guest waited 30 ms for "login:"',
  );
  assertEquals(error.kind, "timeout");
  assert(error.transcriptPath?.startsWith(directory.path));
  const transcript = await Deno.readTextFile(error.transcriptPath!);
  assertEquals(transcript, "⟦Booting\\n⟧Booting\n");
});

Deno.test("the end of the output ends a wait", async () => {
  using directory = TemporaryDirectory.make("console");
  await using console = Console.spawn("sh", {
    args: ["-c", "echo last words"],
    transcriptDirectory: directory.path,
  });
  const error = await assertRejects(
    () => console.expect("login:"),
    ConsoleError,
    "last words",
  );
  assertEquals(error.kind, "closed");
});

Deno.test("a failOn pattern ends a wait that asks for another", async () => {
  using directory = TemporaryDirectory.make("console");
  await using console = Console.spawn("sh", {
    args: ["-c", "echo Kernel panic - not syncing; exec cat"],
    failOn: [/Kernel panic/],
    transcriptDirectory: directory.path,
  });
  const error = await assertRejects(
    () => console.expect("login:"),
    ConsoleError,
    'printed "Kernel panic" before "login:"',
  );
  assertEquals(error.kind, "failed");
});

Deno.test("run returns output and status of a command", async () => {
  await using console = shell();
  await console.waitForPrompt();
  assertEquals(await console.run("echo a; echo b"), {
    output: "a\nb",
    status: 0,
  });
  assertEquals(await console.run("printf unended; (exit 7)"), {
    output: "unended",
    status: 7,
  });
});

Deno.test("run is not confused by its own marks in a command's output", async () => {
  await using console = shell();
  await console.waitForPrompt();
  const { output, status } = await console.run("echo @@END-0 3; echo ready\\>");
  assertEquals(output, "@@END-0 3\nready>");
  assertEquals(status, 0);
});

Deno.test("run takes a command for the background", async () => {
  await using console = shell();
  await console.waitForPrompt();
  assertEquals((await console.run("true &")).status, 0);
  assertEquals((await console.run("wait $!")).status, 0);
});

Deno.test("run refuses what no line editor takes", async () => {
  await using console = shell();
  await console.waitForPrompt();
  await assertRejects(
    () => console.run("echo a\necho b"),
    ConsoleError,
    "it must be one line",
  );
  await assertRejects(() => console.run("x".repeat(1_000)), ConsoleError);
  assertEquals(await console.check("echo still here"), "still here");
});

Deno.test("check throws for another status than 0", async () => {
  using directory = TemporaryDirectory.make("console");
  await using console = shell();
  console.configure({ transcriptDirectory: directory.path });
  await console.waitForPrompt();
  const error = await assertRejects(
    () => console.check("echo no such disk; (exit 3)"),
    ConsoleError,
    "status 3",
  );
  assertEquals(error.kind, "command");
  assert(error.message.includes("no such disk"));
});

Deno.test("the prompt is the caller's", async () => {
  await using console = shell("root@guest:~ # ");
  await console.waitForPrompt();
  console.configure({ prompt: "db> " });
  assertEquals(await console.run("PS1='db> '"), { output: "", status: 0 });
  assertEquals(await console.check("echo ok"), "ok");
});

Deno.test("with a pace, characters are typed one at a time", async () => {
  for (const [characterDelay, writes] of [[0, 1], [1, 5]]) {
    const typed: string[] = [];
    await using console = new Console({
      readable: ReadableStream.from([]),
      writable: new WritableStream({
        write: (chunk) => void typed.push(new TextDecoder().decode(chunk)),
      }),
    }, { characterDelay });
    await console.sendLine("boot");
    assertEquals(typed.join(""), "boot\n");
    assertEquals(typed.length, writes);
  }
});

Deno.test("the line end is the caller's", async () => {
  using directory = TemporaryDirectory.make("console");
  const typed = directory.file("typed");
  await using console = Console.spawn("sh", {
    args: ["-c", 'head -c 5 > "$0"; echo taken', typed],
    newline: "\r",
  });
  await console.sendLine("boot");
  await console.expect("taken");
  assertEquals(await Deno.readTextFile(typed), "boot\r");
});

Deno.test("terminal control sequences are not part of the text", async () => {
  await using console = Console.spawn("printf", {
    args: ["\\033[2J\\033[1;31mlog\\033[0min:\\r\\n"],
  });
  assertEquals((await console.expect(/.*\n/)).text, "login:\n");
  assert(console.transcript.includes("\u001b[1;31m"));
});

Deno.test("a console over a Unix socket", async () => {
  using directory = TemporaryDirectory.make("console");
  const path = directory.file("console.sock");
  using listener = Deno.listen({ transport: "unix", path });
  const accepted = listener.accept();
  await using console = await Console.connect(path, { name: "socket" });
  const peer = await accepted;
  await console.sendLine("hello");
  const into = new Uint8Array(16);
  assertEquals(await peer.read(into), 6);
  await peer.write(new TextEncoder().encode("login: "));
  await console.expect("login: ");
  peer.close();
  await console.closed;
  console.configure({ transcriptDirectory: directory.path });
  await assertRejects(() => console.expect("more"), ConsoleError, "ended");
});

Deno.test("typing into a console that has ended fails in time", async () => {
  using directory = TemporaryDirectory.make("console");
  await using console = Console.spawn("true", {
    transcriptDirectory: directory.path,
  });
  await console.closed;
  await console.child?.wait(5_000);
  const error = await assertRejects(
    () => console.sendLine("anyone?"),
    ConsoleError,
  );
  assertEquals(error.kind, "closed");
});

Deno.test("close ends the child", async () => {
  const console = Console.spawn("cat", {});
  await console.sendLine("up");
  await console.expect("up\n");
  await console.close();
  assert(console.child?.ended);
});

Deno.test("onOutput sees each piece of plain output", async () => {
  let seen = "";
  await using console = Console.spawn("printf", {
    args: ["a\\033[1mb\\n"],
    onOutput: (text) => seen += text,
  });
  await console.closed;
  assertEquals(seen, "ab\n");
});

Deno.test("run asks again for a mark that a message has cut in two", async () => {
  // A shell behind a line that garbles the first mark of each kind.
  const garbled = `
    sh -i 2>&1 | while IFS= read -r line; do
      case "$line" in
        *@@$MARK-1*) MARK=none; echo "@@vtbd1: resized"; echo "-1 0";;
        *) printf '%s\\n' "$line";;
      esac
      printf 'ready> '
    done`;
  for (const mark of ["BEGIN", "END"]) {
    await using console = Console.spawn("sh", {
      args: ["-c", garbled],
      env: { PS1: "", ENV: "", MARK: mark },
      prompt: /^ready> $/m,
      askAgain: 300,
      timeout: 20_000,
    });
    const { output, status } = await console.run("echo one; (exit 3)");
    assertEquals(status, 3, mark);
    assert(output.includes("one"), output);
    assertEquals((await console.run("echo two")).status, 0);
  }
});

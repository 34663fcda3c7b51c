import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { openStorage } from "../../backends/storage/open.ts";
import { runCommand } from "../../tests/support/process.ts";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import { main } from "./main.ts";
import { ROOT, runtimeArguments, vhostd } from "./testing/vhostd.ts";

/** A file that exists. */
const IMAGE = `${ROOT}deno.json`;

/** Runs the command in this process; for what starts nothing. */
async function run(
  ...args: string[]
): Promise<{ code: number; stdout: string; stderr: string }> {
  const { log, error } = console;
  let stdout = "", stderr = "";
  console.log = (text) => stdout += text + "\n";
  console.error = (text) => stderr += text + "\n";
  try {
    return { code: await main(args), stdout, stderr };
  } finally {
    Object.assign(console, { log, error });
  }
}

/** What is wrong with a command line, without the program's name. */
async function refusal(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(...args);
  assertEquals([code, stdout], [2, ""], stderr);
  assertMatch(stderr, /^vhostd: .+\n$/);
  return stderr.slice("vhostd: ".length, -1);
}

Deno.test("main() answers wrong command lines with one line and code 2", async () => {
  const cases: [string[], string][] = [
    [["srve"], 'There is no command "srve" (did you mean "serve"?)'],
    [
      ["run"],
      'There is no command "run": one of serve, blk, net, scsi, balloon, ctl, options, version, help',
    ],
    [["help", "srve"], 'There is no command "srve" (did you mean "serve"?)'],
    [
      ["serve", "a.img", "b.img"],
      'serve: "b.img" is one argument too many: serve [IMG] [OPTION]…',
    ],
    [
      ["serve", "--bkl=path=a"],
      'serve: there is no option --bkl (did you mean "--blk"?)',
    ],
    [["serve", "--blk"], "serve: --blk needs a value: --blk=KEYS"],
    [["serve", "--blk", "readonly"], '--blk: "path" is missing: add path=PATH'],
    [
      ["serve", "--blk=a.img"],
      '--blk: "a.img" is no option; for a file of that name write path=a.img',
    ],
    [
      ["serve", "--blk=path=a,queues=0"],
      '--blk: "queues=0" is no integer from 1 to 256',
    ],
    [
      ["serve", "--blk=path=a,socket=s,fd=3"],
      '--blk: "socket" and "fd" exclude each other: the socket of a descriptor exists already',
    ],
    [
      ["serve", `--blk=path=a,socket=${"s".repeat(108)}`],
      `--blk: "socket=${
        "s".repeat(108)
      }" is too long: 108 bytes, at most 107 are possible`,
    ],
    [
      ["serve", "--blk=path=a,socket=s", "--blk=path=b,socket=s"],
      '"blk" and "blk1" cannot both listen on "s"',
    ],
    [
      ["serve", "--blk=path=a,socket=m", "--management=./m"],
      '"blk" and the management cannot both listen on "./m"',
    ],
    [
      ["serve", IMAGE, `--blk=path=${IMAGE}`],
      `"blk" and "blk1" cannot both write "${IMAGE}"; add readonly=on to both, or share=on to both if the guests are made for it`,
    ],
    [
      ["serve", "--lun", "path=a.img"],
      "--lun path=a.img: there is no device that it could belong to: add --scsi",
    ],
    [
      ["serve", "--scsi", "path=a.img", "--lun", "target=1"],
      '--lun target=1: "path" is missing: add path=PATH',
    ],
    [
      ["serve", "--supervise=maybe"],
      'serve: "supervise=maybe" is none of on, off',
    ],
    [
      ["serve", "--supervise=off", "--blk=path=a,process=pool"],
      '"blk" cannot have "process=pool": without supervision all devices share this process',
    ],
    [
      ["serve", "--log-level=loud"],
      'serve: "log-level=loud" is none of debug, info, warn, error',
    ],
    [
      ["serve", "--management="],
      "serve: --management needs a value: --management=PATH",
    ],
    [
      ["serve", "--config=/nonexistent/c.json"],
      'Cannot read the config file: open "/nonexistent/c.json": No such file or directory (ENOENT)',
    ],
    [["blk"], "blk: neither --socket-path=PATH nor --fd=N is given"],
    [
      ["blk", "--socket-path=s", "--fd=3", "--blk-file=a"],
      "blk: --socket-path and --fd exclude each other",
    ],
    [["blk", "--socket-path=s"], "blk: --blk-file=PATH is missing"],
    [
      ["blk", "a.img"],
      'blk: "a.img" is one argument too many: blk --socket-path=PATH --blk-file=PATH [OPTION]…, or blk --fd=N --blk-file=PATH [OPTION]…, or blk --print-capabilities, or blk --print-json [--binary=PATH]',
    ],
    [
      ["blk", "--print-json", "--binary=vhostd"],
      'blk: "binary=vhostd" is no absolute path',
    ],
    [
      ["ctl"],
      "ctl: what to do is missing: one of status, metrics, resize, resume, link, balloon, lun, call",
    ],
    [["ctl", "link", "on"], 'ctl: a link is up or down, not "on"'],
    [
      ["ctl", "link"],
      "ctl: write vhostd ctl link up|down [NAME] [OPTION]…",
    ],
    [
      ["ctl", "balloon"],
      "ctl: what to do with the balloon is missing: one of set, status, stats",
    ],
    [
      ["ctl", "balloon", "sat"],
      'ctl: there is no "balloon sat" (did you mean "set"?)',
    ],
    [
      ["ctl", "balloon", "set"],
      "ctl: write vhostd ctl balloon set SIZE [NAME] [--wait] [OPTION]…",
    ],
    [["ctl", "status", "--wait"], "ctl: --wait is for ctl balloon set only"],
    [
      ["ctl", "lun", "add", "target=x"],
      'ctl lun add: "target=x" is no integer from 0 to 255',
    ],
    [
      ["ctl", "lun", "mount"],
      'ctl: there is no "lun mount": one of add, remove, resize, change-medium',
    ],
    [["ctl", "stauts"], 'ctl: there is no "stauts" (did you mean "status"?)'],
    [["ctl", "resize"], "ctl: write vhostd ctl resize NAME|all [OPTION]…"],
    [
      ["ctl", "status", "a", "b"],
      'ctl: "b" is one argument too many: write vhostd ctl status [NAME] [--json] [OPTION]…',
    ],
    [
      ["ctl", "resize", "blk", "x"],
      'ctl: "x" is one argument too many: write vhostd ctl resize NAME|all [OPTION]…',
    ],
    [
      ["ctl", "lun", "add", "target=1", "path=x"],
      'ctl: "path=x" is one argument too many: write vhostd ctl lun add|remove|resize|change-medium KEYS [OPTION]…',
    ],
    [["version", "extra"], 'version: "extra" is one argument too many'],
    [
      ["--verson"],
      'There is no option --verson (did you mean "--version"?)',
    ],
    [["--nonsense"], "There is no option --nonsense: one of --help, --version"],
    [
      ["serve", "a.img", "--read-only"],
      "serve: --read-only is a key of --blk: --blk path=a.img,readonly",
    ],
    [
      ["serve", "a.img", "--socket", "s"],
      "serve: --socket is a key of --blk: --blk path=a.img,socket=PATH",
    ],
    [
      ["serve", "--path", "x"],
      "serve: --path is a key of --blk: --blk path=PATH",
    ],
    [
      ["serve", "--backend=tap"],
      "serve: --backend is a key of --net: --net backend=tap|passt|switch|echo",
    ],
    [
      ["serve", "--ifname=tap0"],
      "serve: --ifname is a key of --net: --net ifname=TEXT",
    ],
    [
      ["serve", "--target=1"],
      "serve: --target is a key of --lun: --lun target=N",
    ],
    [
      ["serve", "--blk=storage=memory"],
      '--blk: "size" is missing: add size=SIZE',
    ],
    [
      ["serve", "--blk=storage=memory,size=1X"],
      '--blk: "size=1X" is no size of 4K or more: bytes, or a number with one of the suffixes K, M, G, T and P',
    ],
    [
      ["serve", "--balloon=size=-1"],
      '--balloon: "size=-1" is no size from 0 to 16T less 4K',
    ],
    [["ctl", "call", "m", "[]"], "ctl: the parameters are no JSON object"],
    [
      ["options", "x"],
      'options: "x" is one argument too many: options [--markdown]',
    ],
  ];
  for (const [args, expected] of cases) {
    assertEquals(await refusal(...args), expected, args.join(" "));
  }
});

Deno.test("serve refuses a config file without any device", async () => {
  using directory = TemporaryDirectory.make("main");
  const path = directory.file("c.json");
  for (const text of ["{}", '{"devices":[]}', '{"log-level":"warn"}']) {
    Deno.writeTextFileSync(path, text);
    assertEquals(
      await refusal("serve", `--config=${path}`),
      `${path}: there is no device in "devices", and none on the command line; without --config one of each type is served`,
    );
  }
});

Deno.test("serve --check says what is wrong, and serves nothing", async () => {
  using directory = TemporaryDirectory.make("main");
  const good = directory.file("good.img"), odd = directory.file("odd.img");
  const absent = directory.file("absent.img");
  Deno.writeFileSync(good, new Uint8Array(4096));
  Deno.writeFileSync(odd, new Uint8Array(1000));
  const check = (...args: string[]) => run("serve", "--check", ...args);
  assertEquals(
    await check(
      ...[`--blk=path=${good}`, "--blk=storage=memory,size=1M"],
      ...["--scsi=type=cdrom", `--lun=target=1,path=${good}.2,readonly`],
    ).then(({ code, stderr }) => [code, stderr.includes("good.img.2")]),
    [1, true],
  );
  assertEquals(await check(`--blk=path=${good}`, "--net=backend=echo"), {
    code: 0,
    stdout: 'Nothing is wrong with "blk", "net"; images that were opened: 1\n',
    stderr: "",
  });
  const wrong = await check(
    ...[`--blk=path=${odd}`, `--scsi=path=${absent}`, `--blk=path=${good}`],
  );
  assertEquals([wrong.code, wrong.stdout], [1, ""]);
  assertMatch(
    wrong.stderr,
    /^vhostd: "blk": Cannot serve ".*odd.img": .*; "scsi": Cannot serve ".*absent.img": .*\n$/,
  );
  // An image that another one has.
  const holder = openStorage({ path: good, engine: "sync" });
  try {
    holder.acquire();
    const { code, stderr } = await check(`--blk=path=${good}`);
    assertEquals(code, 1);
    assertStringIncludes(stderr, "another process uses it");
  } finally {
    holder.close();
  }
  assertEquals((await check("--blk=pth=x")).code, 2);
  assertEquals(
    [...Deno.readDirSync(directory.path)].map(({ name }) => name).sort(),
    ["good.img", "odd.img"],
  );
});

Deno.test("main() prints help on stdout where it is asked for", async () => {
  for (
    const args of [
      ["--help"],
      ["-h"],
      ["help"],
      ["help", "serve"],
      ["serve", "--help"],
      ["blk", "-h"],
      ["ctl", "--help"],
      ["options", "--help"],
      ["version", "--help"],
    ]
  ) {
    const { code, stdout, stderr } = await run(...args);
    assertEquals([code, stderr], [0, ""]);
    assertMatch(stdout, /^Usage: vhostd /, args.join(" "));
  }
  const nothing = await run();
  assertEquals([nothing.code, nothing.stdout], [2, ""]);
  assertMatch(nothing.stderr, /^Usage: vhostd COMMAND/);
});

Deno.test("version prints the version", async () => {
  for (const args of [["version"], ["--version"]]) {
    const { code, stdout } = await run(...args);
    assertEquals(code, 0);
    assertMatch(stdout, /^vhostd \d+\.\d+\.\d+ \(deno 2\.\d+\.\d+, v8 .+\)\n$/);
  }
});

Deno.test("the command exits with the code of main()", async () => {
  assertEquals((await vhostd(["version"])).code, 0);
  const { code, stdout, stderr } = await vhostd(["serve", "--nonsense"]);
  assertEquals([code, stdout], [2, ""]);
  assertStringIncludes(stderr, "vhostd: serve: there is no option --nonsense");
});

Deno.test("serve says once what it may not read", async () => {
  const { code, stderr } = await runCommand(Deno.execPath(), {
    args: [
      ...runtimeArguments().filter((each) => !each.startsWith("--allow-read")),
      ...["serve", "--supervise=off", "--management=off"],
      `--blk=path=${IMAGE},readonly,format=raw,socket=/nonexistent/s`,
    ],
    env: { NO_COLOR: "1" },
    anyCode: true,
    timeout: 30_000,
  });
  assertEquals([code, stderr], [
    1,
    `vhostd: Cannot load devices from "${ROOT}": the runtime may not read it; run it with --allow-read=${ROOT}\n`,
  ]);
});

Deno.test("the command says when nobody takes its output", async () => {
  const { code, stderr } = await runCommand("sh", {
    args: [
      ...["-c", 'exec "$@" > /dev/full', "sh", Deno.execPath()],
      ...[...runtimeArguments(), "version"],
    ],
    env: { NO_COLOR: "1" },
    anyCode: true,
    timeout: 30_000,
  });
  assertEquals([code, stderr], [
    1,
    "vhostd: Cannot write to the standard output: No space left on device\n",
  ]);
});

Deno.test("ctl without a server fails with code 1", async () => {
  using directory = TemporaryDirectory.make("ctl");
  const path = directory.file("m.sock");
  const { code, stderr } = await run("ctl", `--management=${path}`, "status");
  assertEquals([code, stderr], [
    1,
    `vhostd: No server listens on "${path}": start "serve", or name its socket with --management=PATH\n`,
  ]);
});

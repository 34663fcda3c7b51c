import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { resolve } from "@std/path";
import type { DeviceSpec } from "../device_host.ts";
import { BLK } from "../device_types.ts";
import { HostError } from "../error.ts";
import { planDevices } from "./device_specs.ts";
import { splitOptions } from "./grammar.ts";

function plan(...lists: string[]): DeviceSpec[] {
  return planDevices(lists.map((list) => ({
    subject: "--blk",
    type: BLK,
    pairs: splitOptions(list),
  }))).map(({ spec }) => spec);
}

function refusal(...lists: string[]): string {
  const error = assertThrows(() => plan(...lists), HostError);
  assertEquals(error.kind, "usage");
  return error.message;
}

Deno.test("planDevices() separates the device's options from the host's", () => {
  const [spec] = plan(
    "path=a.img,socket=a.sock,id=root,mode=660,group=0,indirect=off,queues=2",
  );
  const { options, module, ...rest } = spec;
  assertEquals(rest, {
    name: "root",
    type: "blk",
    socket: "a.sock",
    mode: 0o660,
    group: 0,
    workers: 1,
    poll: "auto",
    eventIdx: true,
    indirect: false,
  });
  assertEquals(module, BLK.module);
  assertEquals([options.path, options.queues, options.segMax], [
    "a.img",
    2,
    126,
  ]);
  for (const name of ["id", "socket", "mode", "group", "poll", "indirect"]) {
    assertEquals(name in options, false, name);
  }
});

Deno.test("planDevices() keeps the name of a shared process from the device", () => {
  const devices = planDevices(["path=a,process=pool", "path=b"].map((list) => ({
    subject: "--blk",
    type: BLK,
    pairs: splitOptions(list),
  })));
  assertEquals(devices.map(({ process }) => process), ["pool", null]);
  for (const { options, spec } of devices) {
    assertEquals(["process" in options, "process" in spec], [false, false]);
  }
  assertEquals(
    refusal("path=a,process=7"),
    '--blk: "process=7" is no name: a letter, then letters, digits, ".", "_" and "-" are possible, "all" excepted',
  );
});

Deno.test("planDevices() names devices and their sockets", () => {
  assertEquals(
    plan("path=a", "path=b", "path=c,id=blk2", "path=d", "path=e,socket=e.sock")
      .map(({ name, socket }) => [name, socket]),
    [
      ["blk", "./vhostd-data/blk.sock"],
      ["blk1", "./vhostd-data/blk1.sock"],
      ["blk2", "./vhostd-data/blk2.sock"],
      ["blk3", "./vhostd-data/blk3.sock"],
      ["blk4", "e.sock"],
    ],
  );
});

Deno.test("planDevices() takes a descriptor instead of a path", () => {
  const [spec] = plan("path=a,fd=7");
  assertEquals([spec.fd, "socket" in spec], [7, false]);
});

Deno.test("planDevices() takes groups by name", () => {
  assertEquals(plan("path=a,group=root")[0].group, 0);
  assertEquals(
    refusal("path=a,group=no such group"),
    '--blk: Cannot find group "no such group": it is neither a number nor a name in /etc/group',
  );
});

Deno.test("planDevices() refuses options that contradict each other", () => {
  for (const option of ["socket=a.sock", "mode=600", "group=0"]) {
    assertEquals(
      refusal(`path=a,fd=7,${option}`),
      `--blk: "${
        option.split("=")[0]
      }" and "fd" exclude each other: the socket of a descriptor exists already`,
    );
  }
});

Deno.test("planDevices() refuses wrong names, modes, descriptors and paths", () => {
  const nameProblem =
    'is no name: a letter, then letters, digits, ".", "_" and "-" are possible, "all" excepted';
  const cases: [string, string][] = [
    ["id=", `"id=" ${nameProblem}`],
    ["id=1a", `"id=1a" ${nameProblem}`],
    ["id=a/b", `"id=a/b" ${nameProblem}`],
    ["id=all", `"id=all" ${nameProblem}`],
    [
      `id=${"a".repeat(33)}`,
      `"id=${"a".repeat(33)}" is too long: 33 bytes, at most 32 are possible`,
    ],
    [
      "mode=rw",
      '"mode=rw" is no octal number of three digits such as 0660',
    ],
    [
      "mode=0888",
      '"mode=0888" is no octal number of three digits such as 0660',
    ],
    [
      "mode=4755",
      '"mode=4755" is no octal number of three digits such as 0660',
    ],
    ["fd=2", '"fd=2" is no integer from 3 to 2147483647'],
    [
      `socket=${"s".repeat(108)}`,
      `"socket=${
        "s".repeat(108)
      }" is too long: 108 bytes, at most 107 are possible`,
    ],
    ["sokcet=a", '"sokcet" is no option (did you mean "socket"?)'],
  ];
  for (const [option, expected] of cases) {
    assertEquals(refusal(`path=a,${option}`), `--blk: ${expected}`);
  }
});

Deno.test("planDevices() refuses what two devices cannot both have", () => {
  assertEquals(
    refusal("path=a,id=x", "path=b,id=x"),
    'Two devices have the name "x"',
  );
  assertEquals(
    refusal("path=a,fd=7", "path=b,fd=7"),
    '"blk" and "blk1" cannot both use fd 7',
  );
  assertEquals(
    refusal("path=a,socket=d/../s.sock", `path=b,socket=${resolve("s.sock")}`),
    `"blk" and "blk1" cannot both listen on "${resolve("s.sock")}"`,
  );
});

Deno.test("planDevices() refuses to write an image twice, whatever its names", () => {
  const directory = Deno.makeTempDirSync();
  try {
    const image = `${directory}/a.img`;
    Deno.writeTextFileSync(image, "");
    Deno.symlinkSync(image, `${directory}/soft.img`);
    Deno.linkSync(image, `${directory}/hard.img`);
    for (const name of ["a.img", "soft.img", "hard.img"]) {
      const other = `path=${directory}/${name}`;
      assertStringIncludes(
        refusal(`path=${image}`, other),
        `"blk" and "blk1" cannot both write "${directory}/${name}"; add readonly=on, or share=on`,
      );
      plan(`path=${image}`, `${other},readonly`);
      plan(`path=${image},readonly`, `${other},readonly`);
      plan(`path=${image}`, `${other},share`);
    }
    plan(`path=${directory}/absent`, `path=${directory}/absent`);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});

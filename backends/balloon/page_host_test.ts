import { assertEquals } from "@std/assert";
import { EventFd } from "../../sys/eventfd.ts";
import type { OwnedFd } from "../../sys/fd.ts";
import { createMemfd } from "../../sys/memfd.ts";
import { openPath } from "../../sys/testing/odd_descriptors.ts";
import { SYSTEM_PAGES } from "./page_host.ts";

Deno.test("only files are shared files", () => {
  using memfd = createMemfd("page-host", 4096);
  using device: OwnedFd = openPath("/dev/zero");
  using directory: OwnedFd = openPath("/");
  using event = EventFd.create();
  assertEquals(
    [memfd, device, directory, event].map(({ fd }) =>
      SYSTEM_PAGES.objection(fd)
    ),
    [
      null,
      "it belongs to a character device",
      "it belongs to a directory",
      "it belongs to an object without a size",
    ],
  );
});

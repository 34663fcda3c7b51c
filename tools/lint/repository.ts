import { fromFileUrl, relative } from "@std/path";

/** The root of the repository, an absolute path. */
export const root: string = fromFileUrl(new URL("../../", import.meta.url));

/**
 * The path of a file from the root of the repository, or undefined for a file
 * outside of it.
 *
 * @param file An absolute path, or one from the root.
 */
export function pathInRepository(file: string): string | undefined {
  const path = file.startsWith("/") ? relative(root, file) : file;
  return path === "" || path.startsWith("..") ? undefined : path;
}

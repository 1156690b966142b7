import { problemIn } from "./toasts";
import { zipped } from "./zip";

const API = "/api/v1/datasets";
/** Bytes of a file from which on it is read in a job, whose page says how far it is, and nobody has to wait. */
const LARGE = 20 * 1024 * 1024;

/** A file may be dropped anywhere on a form with data-drop; it goes into the form's file field, and from there to the store. */
export function uploads(): void {
  const zone = (event: Event) => (event.target as HTMLElement).closest?.<HTMLFormElement>("form[data-drop]");
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => {
      const form = zone(event);
      if (!form) return;
      event.preventDefault();
      form.classList.add("over");
    });
  }
  document.addEventListener("dragleave", (event) => zone(event)?.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    const form = zone(event);
    const files = (event as DragEvent).dataTransfer?.files;
    if (!form || !files?.length) return;
    event.preventDefault();
    form.classList.remove("over");
    const field = form.querySelector<HTMLInputElement>("input[type=file]")!;
    field.files = files;
    field.dispatchEvent(new Event("change", { bubbles: true }));
  });
  document.addEventListener("change", (event) => {
    const field = event.target as HTMLInputElement;
    const form = field.type === "file" ? field.closest<HTMLFormElement>("form[data-drop]") : null;
    if (form && field.files?.length) chosen(form, [...field.files]);
  });
  document.addEventListener("change", (event) => {
    const field = event.target as HTMLInputElement;
    const file = field.files?.[0];
    if (field.dataset["reads"] && file) void read(field, file);
  });
  document.addEventListener("submit", (event) => {
    const form = event.target as HTMLFormElement;
    if (!form.matches("form[data-drop]")) return;
    event.preventDefault();
    void send(form);
  });
}

/** Puts the text of a file into the form's field, and its name where none is given. */
async function read(field: HTMLInputElement, file: File): Promise<void> {
  const form = field.form!;
  const into = (name: string) => form.elements.namedItem(name) as HTMLInputElement | HTMLTextAreaElement;
  into(field.dataset["reads"]!).value = await file.text();
  into("path").value = file.name;
  if (!into("name").value) into("name").value = file.name.replace(/\.[^.]+$/, "").replace(/[@#/\\]/g, "-");
}

const ROWS = /\.((jsonl|ndjson|json|csv|tsv)(\.gz)?|parquet|xlsx)$/i;
const ZIP = /\.zip$/i;

/** Says what is wrong with the files that were chosen: one has the rows, all others are what it names. */
function wrongWith(files: readonly File[]): string {
  const rows = files.filter((file) => ROWS.test(file.name));
  const [first] = files;
  if (files.length === 1 && (rows.length || ZIP.test(first!.name))) return "";
  if (files.length === 1) return `${first!.name} is of a kind that cannot be read: choose a .jsonl, .json, .csv, .tsv, .xlsx or .parquet file; those of text may be packed (.gz); or a .zip of one and the files that it names.`;
  if (files.some((file) => ZIP.test(file.name))) return "Choose either a .zip or the files themselves.";
  if (rows.length !== 1) return `${rows.length ? "Several" : "None"} of these ${files.length} files may be the rows${rows.length ? `: ${rows.slice(0, 3).map((file) => file.name).join(", ")}` : ""}. Choose one file of rows (.jsonl, .csv, …), and the pictures, sounds or documents that it names.`;
  return "";
}

function chosen(form: HTMLFormElement, files: readonly File[]): void {
  const problems = form.querySelector<HTMLElement>("[data-problems]")!;
  problems.textContent = wrongWith(files);
  problems.hidden = !problems.textContent;
  form.querySelector<HTMLButtonElement>("button")!.disabled = !problems.hidden;
  const size = files.reduce((sum, file) => sum + file.size, 0) / 1024;
  const rows = files.find((file) => ROWS.test(file.name)) ?? files[0]!;
  const others = files.length > 1 ? ` and ${files.length - 1} more` : "";
  form.querySelector("[data-file]")!.textContent = `${rows.name}${others}, ${size.toLocaleString("en", { maximumFractionDigits: 1 })} KB`;
  const name = form.querySelector<HTMLInputElement>("input[name=name]")!;
  if (!name.value && problems.hidden) name.value = rows.name.replace(/\.[^.]+$/, "").replace(/[@#/\\]/g, "-");
}

/** Reads which columns hold media: `photo: image, paper: document`. */
function mediaIn(text: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const pair of text.split(",").filter((one) => one.trim())) {
    const colon = pair.lastIndexOf(":");
    const [column, kind] = [pair.slice(0, colon).trim(), pair.slice(colon + 1).trim()];
    if (colon < 1 || !column) throw new Error(`Media: ${pair.trim()} is no column and kind. Write photo: image, with a comma between several.`);
    found[column] = kind === "pdf" ? "document" : kind;
  }
  return found;
}

async function send(form: HTMLFormElement): Promise<void> {
  const fields = new FormData(form);
  const files = fields.getAll("file") as File[];
  const button = form.querySelector<HTMLButtonElement>("button")!;
  const said = form.querySelector("[data-progress]")!;
  const problems = form.querySelector<HTMLElement>("[data-problems]")!;
  problems.hidden = true;
  button.disabled = true;
  try {
    const media = mediaIn(String(fields.get("media") ?? ""));
    if (files.length > 1) said.textContent = "Packing …";
    const file = files.length > 1 ? new File([await zipped(files)], "files.zip") : files[0]!;
    said.textContent = "Uploading …";
    const place = (await asked(`${API}/uploads`, { file_name: file.name, size_bytes: file.size })) as { upload_url: string; method: string; headers: HeadersInit; key: string };
    const put = await fetch(place.upload_url, { method: place.method, headers: place.headers, body: file, redirect: "manual" });
    if (put.type === "opaqueredirect") throw new Error("The store sent the file elsewhere and did not take it: try again in an hour. A new bucket's address takes a while to be known everywhere.");
    if (!put.ok) throw new Error(problemIn(await put.text()) ?? `The store answered ${put.status}.`);
    const wanted = { name: fields.get("name"), description: fields.get("description"), upload: place.key, ...(Object.keys(media).length ? { media } : {}) };
    if (file.size > LARGE) {
      const job = (await asked(`${API}/ingests`, wanted)) as { id: string };
      location.assign(`/jobs/${job.id}`);
      return;
    }
    said.textContent = "Reading every row …";
    const made = (await asked(API, wanted)) as { name: string; version: number };
    const message = encodeURIComponent(`done|${made.name} has version ${made.version} now.`);
    document.cookie = `pl_toast=${message}; Path=/; Max-Age=30; SameSite=Lax`;
    location.assign(`/dataset?${new URLSearchParams({ name: made.name, version: String(made.version) })}`);
  } catch (error) {
    problems.textContent = error instanceof Error ? error.message : String(error);
    problems.hidden = false;
    said.textContent = "";
    button.disabled = false;
  }
}

async function asked(url: string, body: object): Promise<unknown> {
  const answer = await fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const text = await answer.text();
  if (!answer.ok) throw new Error(problemIn(text) ?? `The Studio answered ${answer.status}.`);
  return JSON.parse(text) as unknown;
}

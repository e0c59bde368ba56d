/** The image panel. */

import { addPicture } from "./gallery.js";
import { Panel, numberIn } from "./panel.js";
import { stream } from "./server.js";

const PREVIEWS = 8;
const MOST_STEPS = 100;

const progressBox = document.getElementById("image-progress-box");
const progress = document.getElementById("image-progress");
const progressText = document.getElementById("image-progress-text");
const canvas = document.getElementById("image-canvas");
const preview = document.getElementById("image-preview");
const preset = document.getElementById("image-preset");

export function setUpImages() {
  const panel = new Panel("image", (signal) => draw(panel, signal));
  const { width, height } = panel.form.elements;
  preset.addEventListener("change", () => {
    if (!preset.value) return;
    const [wide, high] = preset.value.split("x");
    put(width, wide);
    put(height, high);
  });
  for (const side of [width, height]) side.addEventListener("input", () => matchPreset(width, height));
  matchPreset(width, height);
}

async function draw(panel, signal) {
  const settings = settingsIn(panel.form.elements);
  const began = performance.now();
  let halfSaid = false;
  panel.say("Drawing…");
  showWaiting(settings);
  try {
    for await (const event of stream("/api/v1/images/stream", requestBody(settings), signal)) {
      showStep(event);
      if (event.preview_url) showImage(event.preview_url, `Preview of: ${settings.prompt}`);
      if (event.done) {
        const url = objectUrl(event.image_url);
        const seconds = (performance.now() - began) / 1000;
        showImage(url, settings.prompt);
        const { seed, width, height } = event;
        addPicture({ ...settings, seed, width, height, seconds, url }, (picture) => reuse(panel, picture));
        panel.say(`Finished in ${seconds.toFixed(1)} s, seed ${seed}.`);
      } else if (!halfSaid && event.step * 2 >= event.total_steps) {
        halfSaid = true;
        panel.say("Drawing… half of the steps are done.");
      }
    }
  } catch (error) {
    canvas.hidden = preview.hidden;
    // An unknown progress would go on moving.
    progressBox.hidden = progress.position < 0;
    throw error;
  }
}

function settingsIn(fields) {
  return {
    prompt: fields.prompt.value,
    negativePrompt: fields.negative_prompt.value,
    width: numberIn(fields.width),
    height: numberIn(fields.height),
    steps: numberIn(fields.num_inference_steps),
    guidance: numberIn(fields.guidance_scale),
    seed: fields.seed.value.trim(),
  };
}

function requestBody(settings) {
  const every = Math.round((settings.steps ?? 0) / PREVIEWS);
  const body = JSON.stringify({
    prompt: settings.prompt,
    negative_prompt: settings.negativePrompt || undefined,
    width: settings.width,
    height: settings.height,
    num_inference_steps: settings.steps,
    guidance_scale: settings.guidance,
    preview_every: Math.min(Math.max(every, 1), MOST_STEPS),
  });
  return settings.seed ? `${body.slice(0, -1)},"seed":${seedAsJson(settings.seed)}}` : body;
}

/** The digits as they are: as a number they would lose some above 2^53. Other text the server refuses as a seed. */
function seedAsJson(seed) {
  return /^-?\d+$/.test(seed) ? seed.replace(/^(-?)0+(?=\d)/, "$1") : JSON.stringify(seed);
}

function showWaiting({ width, height }) {
  progress.removeAttribute("value");
  progressText.textContent = "Waiting for the first step…";
  progressBox.hidden = false;
  preview.hidden = true;
  preview.removeAttribute("src");
  canvas.style.aspectRatio = `${width || 1} / ${height || 1}`;
  canvas.hidden = false;
}

function showStep({ step, total_steps: total }) {
  progress.max = total;
  progress.value = step;
  progressText.textContent = `Step ${step}/${total}`;
}

function showImage(url, description) {
  preview.src = url;
  preview.alt = description;
  preview.hidden = false;
}

/** Put the settings of a picture back into the form. */
function reuse(panel, picture) {
  const fields = panel.form.elements;
  put(fields.prompt, picture.prompt);
  put(fields.negative_prompt, picture.negativePrompt);
  put(fields.width, picture.width);
  put(fields.height, picture.height);
  put(fields.num_inference_steps, picture.steps);
  put(fields.guidance_scale, picture.guidance);
  put(fields.seed, picture.seed);
  fields.prompt.focus();
  panel.say("The picture's settings are in the form.");
}

/** As if it had been typed: what listens to the field takes notice. */
function put(field, value) {
  field.value = value;
  field.dispatchEvent(new Event("input", { bubbles: true }));
}

function matchPreset(width, height) {
  const size = `${width.value}x${height.value}`;
  preset.value = [...preset.options].some((option) => option.value === size) ? size : "";
}

/** A PNG in a data URL as an object URL. (The page's policy does not let it fetch a data URL.) */
function objectUrl(dataUrl) {
  const characters = atob(dataUrl.slice(dataUrl.indexOf(",") + 1));
  const bytes = new Uint8Array(characters.length);
  for (let at = 0; at < bytes.length; at++) bytes[at] = characters.charCodeAt(at);
  return URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
}

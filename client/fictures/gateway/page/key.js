/** The API key: asked for when the server wants one, kept for the tab's session. */

const STORED_AS = "fictures-api-key";

const box = document.getElementById("api-key-box");
const form = document.getElementById("api-key-form");
const field = document.getElementById("api-key");

/** @param {() => void} changed called when another key was entered. */
export function setUpKey(changed) {
  field.value = stored();
  field.addEventListener("input", () => store(field.value.trim()));
  field.addEventListener("change", changed);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    box.open = false;
    changed();
  });
}

export function apiKey() {
  return field.value.trim();
}

export function showKeyField() {
  box.open = true;
}

// Where a browser forbids storage, reading the property throws; the field alone then holds the key.
function stored() {
  try {
    return sessionStorage.getItem(STORED_AS) ?? "";
  } catch {
    return "";
  }
}

function store(key) {
  try {
    if (key) sessionStorage.setItem(STORED_AS, key);
    else sessionStorage.removeItem(STORED_AS);
  } catch {
    // See `stored`.
  }
}

// Requests of the admin API, with the token of this tab.

// The server does not accept the token.
export class Refused extends Error {}

// The token is in the fragment of the address that `tidewater dev` prints: fragments are not sent. It
// lives as long as the tab.
export function token() {
  const given = new URLSearchParams(location.hash.slice(1)).get('token');
  if (given) {
    sessionStorage.setItem('token', given);
    history.replaceState(null, '', location.pathname);
  }
  return sessionStorage.getItem('token');
}

export function keepToken(given) {
  sessionStorage.setItem('token', given);
}

export function forgetToken() {
  sessionStorage.removeItem('token');
}

// Asks the server, and returns the member `data` of its answer. A text is sent as it is.
export async function ask(path, body = {}, signal = undefined) {
  const isText = typeof body === 'string';
  const response = await fetch(path, {
    method: 'POST',
    headers: {
      'content-type': isText ? 'application/yaml' : 'application/json',
      authorization: `Token ${token()}`,
    },
    body: isText ? body : JSON.stringify(body),
    cache: 'no-store',
    signal,
  });
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer.data;

  const error = answer.error ?? {};
  // A server that is busy answers 429, too, and without a code.
  if (response.status === 401 || error.code === 'PSYNC_S2304') {
    throw new Refused('This server does not accept the token.');
  }
  const text = error.description ?? `the server answered ${response.status}`;
  throw new Error(error.details ? `${text}\n${error.details}` : text);
}

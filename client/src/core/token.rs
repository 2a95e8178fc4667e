//! The token that both machines use.

use super::action::Action;

#[derive(Debug, Default)]
pub(super) struct TokenState {
    pub(super) token: Option<String>,
    pub(super) is_fetching: bool,
}

impl TokenState {
    /// Returns the token. Requests one if there is none.
    pub(super) fn get(&mut self, actions: &mut Vec<Action<'_>>) -> Option<String> {
        if self.token.is_none() {
            self.fetch(actions);
        }

        self.token.clone()
    }

    /// Requests a new token, unless a request is in flight.
    pub(super) fn fetch(&mut self, actions: &mut Vec<Action<'_>>) {
        if !std::mem::replace(&mut self.is_fetching, true) {
            actions.push(Action::FetchToken);
        }
    }
}

//! A coordinator at the other end of HTTP.

use std::time::Duration;

use arras_federated::{Board, Error, Result};
use arras_rounds::coordinator::Phase;
use arras_wire::Reader;

/// Largest answer that is read.
const MAX_ANSWER_BYTES: u64 = 4 << 30;

/// A coordinator, asked and told over HTTP.
pub(super) struct Remote {
    agent: ureq::Agent,
    url: String,
    authorization: String,
}

impl Remote {
    /// Prepares; nothing is sent yet.
    pub(super) fn new(url: &str, token: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(120)))
            .http_status_as_error(false)
            .build();
        Remote {
            agent: config.into(),
            url: url.trim_end_matches('/').to_owned(),
            authorization: format!("Bearer {token}"),
        }
    }

    fn unreachable(&self, error: impl std::fmt::Display) -> Error {
        Error::Board(format!("{}: {error}", self.url))
    }

    fn get(&mut self, what: &str) -> Result<Option<Vec<u8>>> {
        let url = format!("{}/{what}", self.url);
        let request = self.agent.get(&url).header("authorization", &self.authorization);
        let mut response = request.call().map_err(|error| self.unreachable(error))?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
        let body = body.map_err(|error| self.unreachable(error))?;
        match status {
            200 => Ok(Some(body)),
            404 => Ok(None),
            _ => Err(self.refused(status, &body)),
        }
    }

    fn refused(&self, status: u16, body: &[u8]) -> Error {
        let reason = String::from_utf8_lossy(&body[..body.len().min(1000)]).trim().to_owned();
        if status >= 500 {
            self.unreachable(reason)
        } else {
            Error::Declined(format!("{}: {reason}", self.url))
        }
    }
}

impl Board for Remote {
    fn phase(&mut self) -> Result<Phase> {
        let body = self.get("phase")?.unwrap_or_default();
        serde_json::from_slice(&body).map_err(|error| self.unreachable(error))
    }

    fn roster(&mut self) -> Result<Option<Vec<u8>>> {
        self.get("roster")
    }

    fn deals(&mut self) -> Result<Option<Vec<Vec<u8>>>> {
        let Some(body) = self.get("deals")? else { return Ok(None) };
        let mut r = Reader::new(&body);
        let mut deals = Vec::new();
        while r.remaining() > 0 {
            let deal = r.blob("deal", MAX_ANSWER_BYTES).map_err(arras_rounds::Error::from)?;
            deals.push(deal.to_vec());
        }
        Ok(Some(deals))
    }

    fn opening(&mut self) -> Result<Option<Vec<u8>>> {
        self.get("opening")
    }

    fn proposal(&mut self) -> Result<Option<Vec<u8>>> {
        self.get("proposal")
    }

    fn total(&mut self) -> Result<Option<Vec<u8>>> {
        self.get("total")
    }

    fn outcome(&mut self) -> Result<Option<Vec<u8>>> {
        self.get("outcome")
    }

    fn post(&mut self, message: &[u8]) -> Result<()> {
        let url = format!("{}/messages", self.url);
        let request = self.agent.post(&url).header("authorization", &self.authorization);
        let mut response = request.send(message).map_err(|error| self.unreachable(error))?;
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(());
        }
        let body =
            response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec().unwrap_or_default();
        Err(self.refused(status, &body))
    }
}

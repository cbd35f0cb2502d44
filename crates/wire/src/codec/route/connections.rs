//! Messages of rules for connections.

use ironmesh_model::Name;
use ironmesh_model::network::Network;
use ironmesh_model::route::{ConnectionMatch, ConnectionRule};
use prost::Message;

use super::super::common::{
    LabelsMessage, labels, labels_message, messages, names, narrow, optional_text, text, values,
};
use super::super::{Coded, DecodeError};
use super::BackendMessage;

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct ConnectionRuleMessage {
    #[prost(string, tag = "1")]
    place: String,
    #[prost(message, repeated, tag = "2")]
    matches: Vec<ConnectionMatchMessage>,
    #[prost(message, repeated, tag = "3")]
    backends: Vec<BackendMessage>,
}

impl Coded for ConnectionRule {
    type Message = ConnectionRuleMessage;

    fn message(&self) -> ConnectionRuleMessage {
        ConnectionRuleMessage {
            place: text(&self.place),
            matches: messages(&self.matches),
            backends: messages(&self.backends),
        }
    }

    fn value(m: ConnectionRuleMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            place: m.place.into(),
            matches: values(m.matches)?,
            backends: values(m.backends)?,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct ConnectionMatchMessage {
    #[prost(string, repeated, tag = "1")]
    server_names: Vec<String>,
    #[prost(message, optional, tag = "2")]
    source_labels: Option<LabelsMessage>,
    #[prost(string, optional, tag = "3")]
    source_namespace: Option<String>,
    #[prost(string, repeated, tag = "4")]
    gateways: Vec<String>,
    #[prost(uint32, optional, tag = "5")]
    port: Option<u32>,
    #[prost(string, repeated, tag = "6")]
    destinations: Vec<String>,
}

impl Coded for ConnectionMatch {
    type Message = ConnectionMatchMessage;

    fn message(&self) -> ConnectionMatchMessage {
        ConnectionMatchMessage {
            server_names: self.server_names.iter().map(text).collect(),
            source_labels: labels_message(&self.source_labels),
            source_namespace: optional_text(self.source_namespace.as_ref()),
            gateways: self.gateways.iter().map(text).collect(),
            port: self.port.map(u32::from),
            destinations: self.destinations.iter().map(Network::to_string).collect(),
        }
    }

    fn value(m: ConnectionMatchMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            server_names: names(m.server_names),
            source_labels: labels(m.source_labels),
            source_namespace: m.source_namespace.map(Name::from),
            gateways: names(m.gateways),
            port: m.port.map(|port| narrow(port, "the port of a match")).transpose()?,
            destinations: m
                .destinations
                .iter()
                .map(|text| network(text))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn network(text: &str) -> Result<Network, DecodeError> {
    text.parse().map_err(|_| DecodeError::OutOfRange("the network of a match"))
}

//! What every head does with a query before it computes: checks, unpacking, masks.

use arras_ckks::{Context, bytes};
use arras_rns::{Backend, Coefficient, Domain, Evaluation, LimbSet, Poly, Positions};

use crate::head::Model;
use crate::layout::Piece;
use crate::preset::Bounds;
use crate::{Error, Layout, Preset, Query, Result};

/// What a head knows of the queries it serves.
#[derive(Debug)]
pub(crate) struct Intake<'c, B: Backend> {
    pub(crate) context: &'c Context<B>,
    preset: &'static Preset,
    bounds: Bounds,
    dimension: usize,
    backbone: Option<String>,
}

impl<'c, B: Backend> Intake<'c, B> {
    pub(crate) fn new(context: &'c Context<B>, model: &Model, bounds: Bounds) -> Result<Self> {
        Self::of(context, model.dimension(), model.card().fingerprint.clone(), bounds)
    }

    pub(crate) fn of(
        context: &'c Context<B>,
        dimension: usize,
        backbone: Option<String>,
        bounds: Bounds,
    ) -> Result<Self> {
        let preset = Preset::of(context.params().fingerprint())?;
        Ok(Self { context, preset, bounds, dimension, backbone })
    }

    pub(crate) fn preset(&self) -> &'static Preset {
        self.preset
    }

    /// That the query is of one of the layouts and belongs to the head.
    pub(crate) fn check(&self, query: &Query, layouts: &[Layout]) -> Result<()> {
        let (ours, theirs) = (self.preset.name, query.preset().name);
        if ours != theirs {
            return Err(Error::Preset { ours, theirs });
        }
        query.groups.check(self.preset)?;
        if !layouts.contains(&query.groups.layout) {
            let names = layouts.iter().map(|layout| layout.name()).collect::<Vec<_>>().join(" and ");
            return Err(Error::Prepared { ours: names, theirs: query.groups.layout.name() });
        }
        let (theirs, ours) = (query.bounds, self.bounds);
        for (what, query, head) in
            [("x_max", theirs.x_max, ours.x_max), ("norm_max", theirs.norm_max, ours.norm_max)]
        {
            if query > head {
                return Err(Error::Bounds { what, query, head });
            }
        }
        if query.groups.dimension != self.dimension {
            return Err(Error::Dimension { head: self.dimension, query: query.groups.dimension });
        }
        if let (Some(head), Some(backbone)) = (&self.backbone, query.backbone) {
            let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            if *head != hex(&backbone) {
                let head = head.chars().take(16).collect();
                return Err(Error::Backbone { head, query: hex(&backbone[..8]) });
            }
        }
        Ok(())
    }

    /// The coefficients of component 0.
    pub(crate) fn unpack(&self, piece: &Piece, packed: &[u8]) -> Result<Poly<B, Coefficient>> {
        let mut body: Poly<B, Coefficient> =
            self.context.allocate(self.context.params().limbs(), piece.polynomials)?;
        let (backend, queue, tables) = (self.context.backend(), self.context.queue(), self.context.tables());
        backend.unpack(queue, tables, &mut body.view_mut(), piece.packing, packed)?;
        Ok(body)
    }

    /// Component 1, for the limbs that are looked at.
    pub(crate) fn mask(&self, query: &Query, piece: &Piece, limbs: LimbSet) -> Result<Poly<B, Evaluation>> {
        let mut mask = self.context.allocate(limbs, piece.polynomials)?;
        let labels = bytes::labels(query.label(piece), piece.polynomials);
        let (backend, queue, tables) = (self.context.backend(), self.context.queue(), self.context.tables());
        backend.expand_seed(queue, tables, &mut mask.view_mut(), &labels)?;
        Ok(mask)
    }

    /// Product of an integer matrix with some of the limbs of a batch.
    pub(crate) fn product<D: Domain>(
        &self,
        matrix: &B::Matrix,
        rows: usize,
        input: &Poly<B, D>,
        limbs: LimbSet,
    ) -> Result<Poly<B, D>> {
        let (backend, queue, tables) = (self.context.backend(), self.context.queue(), self.context.tables());
        let mut out = self.context.allocate(limbs, rows)?;
        let input = input.view().with_limbs(limbs)?;
        backend.matrix_product(queue, tables, &mut out.view_mut(), matrix, &input)?;
        Ok(out)
    }

    /// Trims the components of logits at level 0 into the room of a reply.
    pub(crate) fn trim(
        &self,
        components: Vec<Poly<B, Evaluation>>,
        bits: u32,
        positions: Positions,
        (logits, masks): (&mut [u8], &mut [u8]),
    ) -> Result<()> {
        let (backend, queue, tables) = (self.context.backend(), self.context.queue(), self.context.tables());
        let degree = self.context.params().degree();
        let mask_bytes = masks.len() / (components.len().max(2) - 1);
        let rooms = std::iter::once((logits, positions))
            .chain(masks.chunks_mut(mask_bytes.max(1)).map(|room| (room, Positions::first(degree))));
        for (component, (room, positions)) in components.into_iter().zip(rooms) {
            let mut component = component.retag();
            backend.intt(queue, tables, &mut component.view_mut(), arras_rns::Input::InPlace)?;
            backend.trim(queue, tables, &component.view(), bits, positions, room)?;
        }
        Ok(())
    }
}

FROM golang:1.22 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -ldflags="-s -w" -o /out/orders ./cmd/orders

FROM gcr.io/distroless/static
COPY --from=build /out/orders /orders
EXPOSE 8080
USER 65532
ENTRYPOINT ["/orders"]
CMD ["--listen", ":8080"]
